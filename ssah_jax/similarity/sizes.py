"""Shapes by their letters: the same letter is the same size in all arguments."""

from typing import Any


class Sizes(dict[str, tuple[Any, str]]):
    """The size of each letter of a call, and the argument that it is known from."""

    def match(self, name: str, found: tuple[int, ...], dims: str) -> None:
        """Compare a shape with its letters.

        Args:
            name: of the argument.
            found: its shape.
            dims: a letter, a number or `1` for each axis; `...` first for any others.

        Raises:
            ValueError: they do not fit, or not what other arguments have.
        """
        letters = dims.split()
        lead = letters[:1] == ["..."]
        letters = letters[lead:]
        rest = len(found) - len(letters)
        if rest < 0 or (rest and not lead):
            self._refuse(name, found, dims)
        given: list[tuple[str, Any]] = list(zip(letters, found[rest:], strict=True)) + (
            [("...", found[:rest])] if lead else []
        )
        for letter, size in given:
            wanted = int(letter) if letter.isdigit() else self.get(letter, (size,))[0]
            if size != wanted:
                self._refuse(name, found, dims)
        for letter, size in given:
            self.setdefault(letter, (size, name))

    def _refuse(self, name: str, found: tuple[int, ...], dims: str) -> None:
        letters = dims.split()
        known = [
            f"{letter} = {self[letter][0]} as in {self[letter][1]}"
            for letter in letters
            if letter in self and letter != "..."
        ]
        if "..." in letters and "..." in self:
            known.append(f"... = {self['...'][0]} as in {self['...'][1]}")
        accepted = f"[{', '.join(letters)}]" + (
            f" with {', '.join(known)}" if known else ""
        )
        advice = ""
        if len(letters) == len(found) == 2 and all(
            letter not in self or self[letter][0] == size
            for letter, size in zip(letters, found[::-1], strict=True)
        ):
            advice = f"; {name}.T is"
        elif letters == ["H", "W", "ch"]:
            advice = {
                2: f"; {name}[..., None] has one channel",
                4: "; jax.vmap takes a batch",
            }.get(len(found), "")
        elif len(found) == len(letters) + 1 and "..." not in letters:
            advice = "; jax.vmap takes a batch of them"
        raise ValueError(f"{name}: found shape {found}, accepted is {accepted}{advice}")
