import pytest

from vqnat_plugin.evaluation.tables import code, code_block, escape, markdown_table, summary


def test_table_is_aligned() -> None:
    assert markdown_table(("system", "x"), [("a", "1.5"), ("long name", "")]).splitlines() == [
        "| system    |   x |",
        "| --------- | --: |",
        "| a         | 1.5 |",
        "| long name |     |",
    ]


def test_no_name_breaks_a_table_or_becomes_html() -> None:
    rows = [("a|b\nc", "1"), ("<script>x</script>", "2"), ("\\|", "3"), ("[x](y) `z` *t*", "4")]
    lines = markdown_table(("na|me", "x"), rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[2].startswith(r"| a\|b c ")
    assert lines[3].startswith("| &lt;script>x&lt;/script> ")
    assert lines[4].startswith(r"| \\\| ")
    assert lines[5].startswith(r"| \[x\](y) \`z\` \*t\* ")


@pytest.mark.parametrize(
    "line", ["# a", "## ", "- a", "-", "---", "+ a", "> a", ">a", "===", "12. a", "3) a"]
)
def test_no_line_is_a_heading_a_list_or_a_quotation(line: str) -> None:
    start = line.index(line.strip("0123456789")[0])
    assert escape(line) == f"{line[:start]}\\{line[start:].strip()}"


@pytest.mark.parametrize(
    "name", ["teacher_beam4", "R&D", "1.5 ± 0.5", "batch 1, ms", "2.0%", "a > b", "-3", "#1"]
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert escape(name) == name


def test_pictures_and_links_are_text() -> None:
    assert escape("![a](https://b/c.png)") == r"!\[a\](https://b/c.png)"
    assert escape("[a]: javascript:b") == r"\[a\]: javascript:b"
    assert escape("a\n\n# b\r\n<img src=x>") == "a # b &lt;img src=x>"


def test_marks_at_the_edge_of_a_word_and_entities_are_escaped() -> None:
    assert escape("_a_b_") == r"\_a_b\_"
    assert escape("&lt;b>") == "&amp;lt;b>"


def test_code_is_fenced_by_more_than_it_holds() -> None:
    assert code("a|b") == "`a|b`"
    assert code("a`b") == "`` a`b ``"
    assert code_block(["run x"], "sh") == "```sh\nrun x\n```"
    assert code_block(["a '\n```\n<b>'"]) == "````\na '\n```\n<b>'\n````"


def test_a_summary_is_the_mean_and_half_the_range() -> None:
    assert summary([1.0, 2.0, None], ".1f") == "1.5 ± 0.5"
    assert summary([3.0], ".2f") == "3.00"
    assert summary([None], ".1f") == ""
