"""What the server answers, as OpenAPI 3.1."""

from typing import Any, Final

import ssah_jax

MOST_RESULTS: Final = 500
"""Images that a search finds at most."""


def description(*, max_upload: int) -> dict[str, Any]:
    """The document of `/openapi.json`.

    Args:
        max_upload: bytes of an image that may be sent.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ssah serve",
            "version": ssah_jax.__version__,
            "description": "Images nearest to an image, by Hamming distance of their "
            f"codes. Images of up to {max_upload} bytes. Errors are objects with one "
            "line, error.",
        },
        "paths": {
            "/search": {"post": _SEARCH},
            "/images/{row}": {"get": _IMAGE},
            "/duplicates": {"get": _DUPLICATES},
            "/about": {"get": _ABOUT},
        },
        "components": {"schemas": _SCHEMAS},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _json(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _errors(**reasons: str) -> dict[str, Any]:
    reasons["_403"] = "asked for by a name or a page that is not this server's"
    return {
        status.lstrip("_"): _json(reason, _ref("Error"))
        for status, reason in sorted(reasons.items())
    }


_CHANGED: Final = "the index has changed since the row's number was told"
_STRINGS: Final = _list({"type": "string"})
_K: Final = {"type": "integer", "minimum": 1, "maximum": MOST_RESULTS, "default": 24}
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


_SEARCH: Final = {
    "summary": "The nearest images of an image, or of an indexed one",
    "description": "The body is the image itself, and what else is wanted stands in "
    "the query; or it is JSON and holds all.",
    "parameters": [
        _query("k", _K, "how many (of an image as the body)"),
        _query("label", _STRINGS, "only images with one of these labels"),
        _query(
            "path", _STRINGS, "only images whose id is like one of these: * ? [...]"
        ),
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _ref("Query")},
            "image/*": _BYTES,
            "application/octet-stream": _BYTES,
        },
    },
    "responses": {
        "200": _json("nearest first", _ref("Found")),
        **_errors(
            _409=_CHANGED,
            _413="the image is too large",
            _415="the body is of another type",
            _422="no image, or no such row, label or number",
        ),
    },
}
_IMAGE: Final = {
    "summary": "An indexed image, as a JPEG that is made anew",
    "parameters": [
        {"name": "row", "in": "path", "required": True, "schema": {"type": "integer"}},
        _query(
            "side",
            {"enum": ["small", "large"], "default": "small"},
            "its centre square of 192 pixels, or all of it",
        ),
        _query("index", {"type": "string"}, "that the row's number is of"),
    ],
    "responses": {
        "200": {"description": "the image", "content": {"image/jpeg": {}}},
        **_errors(_404="no such row, or the file is gone", _409=_CHANGED),
    },
}
_DUPLICATES: Final = {
    "summary": "Groups of images with like codes, the largest first",
    "parameters": [
        _query(
            "distance",
            {"type": "integer", "minimum": 0, "default": 0},
            "the greatest Hamming distance of two that are alike",
        )
    ],
    "responses": {
        "200": _json("groups", _ref("Groups")),
        **_errors(_422="no distance, or one that takes too long"),
    },
}
_ABOUT: Final = {
    "summary": "What is indexed",
    "responses": {"200": _json("the index", _ref("About")), **_errors()},
}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_INTEGER: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {"type": "string"}
_SCHEMAS: Final = {
    "Query": {
        "type": "object",
        "properties": {
            "image": {"type": "string", "contentEncoding": "base64"},
            "row": _INTEGER,
            "index": _TEXT,
            "k": _K,
            "labels": _STRINGS,
            "paths": _STRINGS,
        },
        "oneOf": [{"required": ["image"]}, {"required": ["row"]}],
        "additionalProperties": False,
    },
    "Image": _object(row=_INTEGER, id=_TEXT, labels=_STRINGS),
    "Hit": _object(
        rank={"type": "integer", "minimum": 1},
        distance=_INTEGER,
        similarity={"oneOf": [{"type": "number"}, {"type": "null"}]},
        row=_INTEGER,
        id=_TEXT,
        labels=_STRINGS,
    ),
    "Found": _object(
        index=_TEXT,
        query={"oneOf": [_ref("Image"), {"type": "null"}]},
        results=_list(_ref("Hit")),
    ),
    "Groups": _object(
        index=_TEXT,
        groups=_INTEGER,
        shown=_list(_object(size=_INTEGER, images=_list(_ref("Hit")))),
    ),
    "About": _object(
        images=_INTEGER,
        bits=_INTEGER,
        kind=_TEXT,
        model=_TEXT,
        labels=_list(_object(name=_TEXT, images=_INTEGER)),
        index=_TEXT,
        max_upload=_INTEGER,
    ),
    "Error": _object(error=_TEXT),
}
