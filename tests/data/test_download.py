import gzip
import hashlib
import http.server
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vqnat_plugin.commands.main import main
from vqnat_plugin.data.download import download, file_name
from vqnat_plugin.errors import DataError

CONTENT = random.Random(1).randbytes(200_000)


@dataclass
class Site:
    """One file on a web server, the troubles that its first requests meet, and what was asked for.

    Each trouble is an HTTP status, or a number of bytes below 0 after which the connection is cut.
    """

    url: str
    content: bytes = CONTENT
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"v1"'})
    resumable: bool = True
    troubles: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        asked = self.headers["Range"]
        site.ranges.append(asked)
        trouble = site.troubles.pop(0) if site.troubles else None
        if trouble is not None and trouble > 0:
            self.send_error(trouble)
            return
        body = site.content
        start = 0
        same = self.headers["If-Range"] in site.headers.values()
        if site.resumable and asked and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        for name, value in site.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:] if trouble is None else body[start : start - trouble])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server on the loopback interface, for the time of a test."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.site = Site(f"http://127.0.0.1:{server.server_port}/folder/file.bin")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Handler.site
        server.shutdown()
        thread.join()


@pytest.fixture
def waits() -> list[float]:
    return []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "new" / "file.bin"
    assert download(site.url, out, sha256=hashlib.sha256(CONTENT).hexdigest().upper())
    assert out.read_bytes() == CONTENT
    assert names(out.parent) == ["file.bin"]


def test_a_file_that_is_there_is_left_alone(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "file.bin"
    out.write_text("mine")
    assert not download(site.url, out)
    assert out.read_text() == "mine"
    assert site.ranges == []


def test_what_is_there_has_to_be_what_was_asked_for(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "file.bin"
    with pytest.raises(DataError, match="is a folder, needs the name of a file"):
        download(site.url, tmp_path)
    with pytest.raises(DataError, match="/dev/stdout: is no file, needs the name of a file"):
        download(site.url, Path("/dev/stdout"), sha256="0" * 64)
    out.write_bytes(CONTENT[:-1])
    digest = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(DataError, match=r"file\.bin: is there, but is not the file with that sha256; delete"):
        download(site.url, out, sha256=digest)
    assert out.read_bytes() == CONTENT[:-1] and site.ranges == []
    out.write_bytes(CONTENT)
    assert not download(site.url, out, sha256=digest.upper()) and site.ranges == []


@pytest.mark.parametrize("headers", [{"ETag": '"v1"'}, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_a_cut_connection_is_gone_on_with(
    site: Site, tmp_path: Path, waits: list[float], headers: dict[str, str]
) -> None:
    site.headers, site.troubles = headers, [-70_000, -50_000]
    download(site.url, tmp_path / "file.bin", sleep=waits.append)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=70000-", "bytes=120000-"]
    # Each attempt brought something, so that the wait did not grow.
    assert waits == [1.0, 1.0]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"v1"'}])
def test_without_a_sure_mark_of_the_version_the_next_attempt_starts_anew(
    site: Site, tmp_path: Path, waits: list[float], headers: dict[str, str]
) -> None:
    site.headers, site.troubles = headers, [-70_000]
    download(site.url, tmp_path / "file.bin", sleep=waits.append)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert site.ranges == [None, None]


def test_a_server_that_cannot_resume_sends_all_of_it(site: Site, tmp_path: Path, waits: list[float]) -> None:
    site.resumable, site.troubles = False, [-70_000]
    download(site.url, tmp_path / "file.bin", sleep=waits.append)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=70000-"]


def test_a_later_call_goes_on_where_a_failed_one_ended(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "file.bin"
    site.troubles = [-70_000]
    with pytest.raises(DataError, match=r"cut off after 70,000 of 200,000 bytes"):
        download(site.url, out, attempts=1)
    assert not out.exists()
    download(site.url, out)
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=70000-"]
    assert names(tmp_path) == ["file.bin"]


def test_parts_of_two_versions_are_not_mixed(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "file.bin"
    site.troubles = [-70_000]
    with pytest.raises(DataError):
        download(site.url, out, attempts=1)
    site.content, site.headers = CONTENT[::-1], {"ETag": '"v2"'}
    download(site.url, out)
    assert out.read_bytes() == CONTENT[::-1]


def test_parts_of_two_files_are_not_mixed(site: Site, tmp_path: Path) -> None:
    """Not even where the server calls both by the same mark."""
    out = tmp_path / "file.bin"
    site.troubles = [-70_000]
    with pytest.raises(DataError):
        download(site.url, out, attempts=1)
    site.content = CONTENT[::-1]
    download(site.url.replace("file", "other"), out)
    assert out.read_bytes() == CONTENT[::-1] and site.ranges == [None, None]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(
    site: Site, tmp_path: Path, waits: list[float]
) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.bin.part.version").write_text('"v1"')
    download(site.url, tmp_path / "file.bin", sleep=waits.append)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_ever_more_slowly(
    site: Site, tmp_path: Path, waits: list[float]
) -> None:
    site.troubles = [503, 429, 500]
    download(site.url, tmp_path / "file.bin", sleep=waits.append)
    assert waits == [1.0, 2.0, 4.0]


def test_it_gives_up_after_so_many_failures(site: Site, tmp_path: Path, waits: list[float]) -> None:
    site.troubles = [503] * 9
    with pytest.raises(DataError, match=r"file.bin: HTTP 503 .*, 3 times in a row; .*--data"):
        download(site.url, tmp_path / "file.bin", attempts=3, sleep=waits.append)
    assert len(site.ranges) == 3


def test_a_missing_file_is_asked_for_once(site: Site, tmp_path: Path, waits: list[float]) -> None:
    site.troubles = [404]
    with pytest.raises(DataError) as error:
        download(site.url, tmp_path / "file.bin", sleep=waits.append)
    assert site.url in str(error.value) and "HTTP 404" in str(error.value) and "--data" in str(error.value)
    assert waits == [] and names(tmp_path) == []


def test_no_server_is_a_clear_error(site: Site, tmp_path: Path, waits: list[float]) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/file.bin"
    with pytest.raises(DataError, match=r"no connection .* 2 times in a row"):
        download(url, tmp_path / "file.bin", attempts=2, sleep=waits.append)


def test_a_wrong_checksum_is_refused_and_not_gone_on_with(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "file.bin"
    with pytest.raises(DataError, match=r"damaged or changed: its SHA-256 is .*, expected 0000"):
        download(site.url, out, sha256="0" * 64)
    assert not out.exists() and not (tmp_path / "file.bin.part").exists()


@pytest.mark.parametrize(
    ("name", "decompress", "plain"),
    [
        ("text.en", None, True),
        ("text.en.gz", None, False),
        ("text.en.gz", True, True),
        ("text.en", False, False),
    ],
)
def test_gzip_is_undone_when_the_name_says_so(
    site: Site, tmp_path: Path, name: str, decompress: bool | None, plain: bool
) -> None:
    site.content = gzip.compress(CONTENT)
    out = tmp_path / name
    download(site.url.replace(".bin", ".gz?raw=1"), out, decompress=decompress)
    assert out.read_bytes() == (CONTENT if plain else site.content)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    "damage",
    [b"no gzip", gzip.compress(CONTENT)[:-20], gzip.compress(b"a") + b"xx"],
    ids=["other", "cut", "longer"],
)
def test_damaged_gzip_is_refused(site: Site, tmp_path: Path, damage: bytes) -> None:
    site.content = damage
    with pytest.raises(DataError, match="not whole gzip data"):
        download(site.url, tmp_path / "text.en", decompress=True)
    assert "text.en" not in names(tmp_path) and "text.en.part" not in names(tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "data/train.en", "ftp://127.0.0.1/x"])
def test_only_the_web(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a web address"):
        download(url, tmp_path / "x")


def test_names_come_from_the_path_of_the_url() -> None:
    assert file_name("https://example.org/a/b%20c.tgz?x=/y") == "b c.tgz"
    with pytest.raises(DataError, match="no file name"):
        file_name("https://example.org/a/")


@pytest.mark.parametrize("resumable", [True, False])
def test_a_link_in_the_place_of_the_part_is_not_followed(
    site: Site, tmp_path: Path, waits: list[float], resumable: bool
) -> None:
    """Neither the bytes, nor the mark of the version, nor what gzip held goes where a link points."""
    site.resumable, site.content = resumable, gzip.compress(CONTENT)
    for name in ("text.part", "text.part.version", "text.part.plain"):
        (tmp_path / f"theirs of {name}").write_text('"v1"')
        (tmp_path / name).symlink_to(tmp_path / f"theirs of {name}")
    download(site.url, tmp_path / "text", decompress=True, sleep=waits.append)
    assert (tmp_path / "text").read_bytes() == CONTENT and not (tmp_path / "text").is_symlink()
    assert all(path.read_text() == '"v1"' for path in tmp_path.glob("theirs*"))
    assert not (tmp_path / "text.part").is_symlink()


def test_a_link_laid_in_the_meantime_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("mine")

    unlink = Path.unlink

    def unlink_and_link(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.name == "file.bin.part":
            path.symlink_to(theirs)

    (tmp_path / "file.bin.part").write_text("old")
    monkeypatch.setattr(Path, "unlink", unlink_and_link)
    with pytest.raises(OSError, match=r"file\.bin\.part"):
        download(site.url, tmp_path / "file.bin")
    assert theirs.read_text() == "mine"


def test_the_command_downloads_several_files(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [site.url, site.url.replace("file", "other")]
    assert main(["download", *urls, "--out-dir", str(tmp_path)]) == 0
    assert names(tmp_path) == ["file.bin", "other.bin"]
    assert "other.bin: 200,000 bytes" in capsys.readouterr().out
    assert main(["download", site.url, "--out", str(tmp_path / "file.bin")]) == 0
    assert "200,000 bytes, was there" in capsys.readouterr().out


@pytest.mark.parametrize("tail", ["", ".gz"])
def test_two_files_of_one_name_are_refused_before_anything_is_fetched(
    tail: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [f"{site.url}?f=en", f"{site.url}{tail}?f=de"]
    with pytest.raises(SystemExit, match="2"):
        main(["download", *urls, "--out-dir", str(tmp_path), "--gunzip"])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{urls[1]}: would be written to {tmp_path}/file.bin, as {urls[0]}" in line
    assert site.ranges == [] and names(tmp_path) == []


def test_the_command_undoes_gzip(site: Site, tmp_path: Path) -> None:
    site.content = gzip.compress(CONTENT)
    checksum = hashlib.sha256(site.content).hexdigest()
    arguments = ["--out-dir", str(tmp_path), "--gunzip", "--sha256", checksum]
    assert main(["download", site.url.replace(".bin", ".gz"), *arguments]) == 0
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_command_ends_with_one_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.troubles = [404]
    with pytest.raises(SystemExit, match="2"):
        main(["download", site.url, "--out", str(tmp_path / "file.bin")])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vqnat download: error: {site.url}: HTTP 404")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "--out x: is for one URL, but there are 2"),
        (["--out-dir", "x", "--sha256", "00"], "--sha256: 1 checksums for 2 URLs"),
        (["--out-dir", "x", "--attempts", "0"], "--attempts 0: needs at least 1"),
        ([], "needs either --out FILE or --out-dir DIR"),
        (["--out", "x", "--out-dir", "x"], "needs either --out FILE or --out-dir DIR"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["download", "http://127.0.0.1:1/a", "http://127.0.0.1:1/b", *arguments])
    assert message in capsys.readouterr().err
