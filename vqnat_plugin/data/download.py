"""Downloading a file: with retries, going on where a cut connection ended, whole or not at all."""

import gzip
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import DataError
from ..files import alone, is_stream, open_no_link, write_atomically, write_text
from ..reading import read_text
from ..reading import sha256 as digest_of

CHUNK = 1 << 16
TIMEOUT = 60.0
# Besides all 5xx: request timeout, too many requests.
PASSING_STATUS = (408, 429)


class _Interrupted(Exception):
    """An attempt failed in a way that another one may not."""


def download(
    url: str,
    out: Path,
    sha256: str | None = None,
    decompress: bool | None = None,
    attempts: int = 5,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Download `url` to `out`. A file that is there already is left alone.

    The bytes go to `out` + ".part" first, which stays until the file is whole. An attempt that breaks off is
    repeated after 1, 2, 4, ... seconds and, where the server allows it, goes on where the last one ended; so
    does a new call after a kill. Attempts that brought new bytes do not count.

    Args:
        url: http or https address.
        out: file to write; its folder is made if needed.
        sha256: checksum of what is downloaded, in hexadecimal digits.
        decompress: whether to undo gzip; by default, whether `url` ends in .gz and `out` does not.
        attempts: how many in a row may fail without a new byte.
        sleep: waits for the given number of seconds.

    Returns:
        Whether anything was downloaded; false if `out` was there.

    Raises:
        DataError: the file cannot be had, or is not what was expected.
    """
    path = urllib.parse.urlsplit(plain(url)).path
    if decompress is None:
        decompress = path.endswith(".gz") and out.suffix != ".gz"
    # Of what is unpacked, the sum is not known.
    expected = None if decompress else sha256
    if _is_there(out, expected):
        return False
    part = out.with_name(out.name + ".part")
    with alone(out, beside=True, wait=True):
        if _is_there(out, expected):
            return False
        _fetch(url, part, attempts, sleep)
        if sha256 is not None:
            _check(url, part, sha256)
        if decompress:
            _decompress(url, part, out)
            part.unlink()
        else:
            os.replace(part, out)
        _validator_file(part).unlink(missing_ok=True)
    return True


def _is_there(out: Path, sha256: str | None) -> bool:
    """Whether a file is there; `DataError` where it is a folder, or has another checksum."""
    if out.is_dir() or is_stream(out):
        raise DataError(f"{out}: is {'a folder' if out.is_dir() else 'no file'}, needs the name of a file")
    if not out.exists():
        return False
    if sha256 is not None and digest_of(out) != sha256.lower():
        raise DataError(f"{out}: is there, but is not the file with that sha256; delete it to download that")
    return True


def plain(url: str) -> str:
    """A web address as it is asked for, in ASCII.

    Raises:
        DataError: it is none.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError as error:
        raise DataError(f"{url}: not a web address ({error})") from None
    if parts.scheme not in ("http", "https") or not host:
        raise DataError(f"{url}: not a web address (needs http:// or https://, and a host)")
    user, at, _ = parts.netloc.rpartition("@")
    place = f"{user}{at}{f'[{host}]' if ':' in host else host}" + ("" if port is None else f":{port}")
    path, query = (urllib.parse.quote(part, safe="/%?:@!$&'()*+,;=~") for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))


def file_name(url: str) -> str:
    """The last part of the path of a URL.

    Raises:
        DataError: it is empty, or no name of a file; or the URL is none.
    """
    name = urllib.parse.unquote(urllib.parse.urlsplit(plain(url)).path).rpartition("/")[2]
    if not name or name in (".", "..") or "\0" in name:
        raise DataError(f"{url}: has no file name; name one with --out")
    return name


def _way_out(url: str) -> str:
    name = urllib.parse.urlsplit(plain(url)).path.rpartition("/")[2]
    file = urllib.parse.unquote(name) or "it"
    return f"fetch {file} elsewhere, put it into a folder, and give that to the recipe with --data"


def _fetch(url: str, part: Path, attempts: int, sleep: Callable[[float], object]) -> None:
    """Bring the whole of `url` to `part`, in as many attempts as it takes."""
    failures, most = 0, _size(part)
    while True:
        try:
            _attempt(url, part)
            return
        except _Interrupted as error:
            reason = str(error)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in PASSING_STATUS:
                raise DataError(f"{url}: {reason}; {_way_out(url)}") from None
        failures = 1 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures >= attempts:
            raise DataError(f"{url}: {reason}, {failures} times in a row; try later, or {_way_out(url)}")
        wait = 2.0 ** (failures - 1)
        tqdm.write(f"{url}: {reason}; once more in {wait:.0f} s")
        sleep(wait)


def _attempt(url: str, part: Path) -> None:
    """One request; adds to `part` what it is still lacking, or writes it anew."""
    offset, validator = _size(part), _validator_file(part)
    headers = {"User-Agent": "vqnat-plugin"}
    if offset and validator.is_file():
        address, _, mark = read_text(validator).partition("\n")
        if address == url:
            # If-Range: the rest if the file is still the same, else all of it.
            headers |= {"Range": f"bytes={offset}-", "If-Range": mark}
    request = urllib.request.Request(plain(url), headers=headers)
    with _try(lambda: urllib.request.urlopen(request, timeout=TIMEOUT)) as response:
        part.parent.mkdir(parents=True, exist_ok=True)
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            offset = 0
            part.unlink(missing_ok=True)
            _remember(validator, url, response.headers)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            part.unlink()
            raise _Interrupted("the server sent another part than it was asked for")
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else None
        with (
            open(part, "ab", opener=open_no_link) as file,
            tqdm(
                desc=part.stem, initial=offset, total=total, unit="B", unit_scale=True, mininterval=1
            ) as bar,
        ):
            while chunk := _try(lambda: response.read(CHUNK)):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise _Interrupted(f"cut off after {_size(part):,} of {total:,} bytes")


def _try(call: Callable[[], Any]) -> Any:
    """Call something that reads from the network; tell its failures from those of the disk."""
    try:
        return call()
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _Interrupted(f"no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"connection lost ({str(error) or type(error).__name__})") from None


def _remember(validator: Path, url: str, headers: Any) -> None:
    """Keep what identifies this version of this file; without it an attempt cannot be gone on with."""
    tag = headers.get("ETag") or ""
    # Weak tags do not promise the same bytes.
    mark = headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
    if mark:
        write_text(validator, f"{url}\n{mark}")
    else:
        validator.unlink(missing_ok=True)


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _size(part: Path) -> int:
    # A link is not ours: it counts as nothing, and is replaced.
    return 0 if part.is_symlink() or not part.exists() else part.stat().st_size


def _check(url: str, part: Path, sha256: str) -> None:
    found, expected = digest_of(part), sha256.lower()
    if found != expected:
        part.unlink()
        raise DataError(
            f"{url}: damaged or changed: its SHA-256 is {found}, expected {expected}; {_way_out(url)}"
        )


def _decompress(url: str, part: Path, out: Path) -> None:
    def write(plain: Path) -> None:
        with gzip.open(part) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    try:
        write_atomically(out, write)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        part.unlink()
        raise DataError(f"{url}: not whole gzip data ({error}); {_way_out(url)}") from None
