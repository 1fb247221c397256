"""The how-tos of indices that keep up and of the server quote their records."""

from commands import ROOT
from docs_cases import read_record


def text_of(name):
    return " ".join((ROOT / f"docs/howto/{name}.md").read_text().split())


def test_the_page_of_upkeep_quotes_its_record():
    page = text_of("index_upkeep")
    found = read_record("index_upkeep")
    folder, codes = found["folder"], found["codes"]
    assert folder["encoded"] == folder["changed"] == 100 and folder["same_as_anew"]
    assert folder["said"] in page
    for name in ("encode_all", "update_unchanged", "update"):
        assert f"{folder[f'{name}_seconds']:.1f} s" in page
    ours, theirs = codes["ssah"], codes["faiss"]
    assert ours["same_distances_as_faiss"]
    for what, name in (
        ("add 10,000", "add_seconds"),
        ("remove 10,000", "remove_seconds"),
        ("1,000 queries, 10 nearest", "search_seconds"),
    ):
        assert f"| {what} | {ours[name]:.2f} s | {theirs[name]:.2f} s |" in page
    memory = f"{ours['megabytes']:.0f} MB | {theirs['megabytes']:.0f} MB"
    assert f"| memory | {memory} |" in page
    assert f"{ours['save_seconds']:.1f} s to write" in page
    assert f"{ours['load_seconds']:.1f} s to read" in page
    took = [f"{ours[f'duplicates_{radius}_seconds']:.1f} s" for radius in (0, 2, 3)]
    assert f"took {took[0]}, {took[1]} and {took[2]} of the processor" in page
    assert codes["threads"] == 1 and "one thread" in page
    reranked = codes["rerank"]
    assert (reranked["candidates"], reranked["width"]) == (100, 256)
    assert (
        f"{codes['nearest']} nearest of them by features | "
        f"{reranked['search_seconds']:.2f} s | "
        f"{theirs['search_candidates_seconds']:.2f} s |"
    ) in page
    assert f"that are looked at | {reranked['megabytes']:.0f} MB |" in page
    assert f"a file of {reranked['file_megabytes']:.0f} MB" in page
    assert f"takes {reranked['open_seconds']:.1f} s to open" in page


def test_the_page_of_the_server_quotes_its_record():
    page = text_of("serve")
    found = read_record("serve_load")
    for row in found["server"]:
        assert not row["failed"]
        assert (
            f"| {row['clients']} | {row['requests_per_second']:.0f} | "
            f"{row['p50_ms']:.0f} ms | {row['p99_ms']:.0f} ms |"
        ) in page
    encoder = found["encoder"]
    assert f"{encoder['images_per_second_batch_1']:.0f} images a second" in page
    assert f"{encoder['images_per_second_batch_16']:.0f} in batches" in page
    assert f"load of {found['load_average']:.0f}" in page
