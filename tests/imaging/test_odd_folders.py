"""Folders as they are found: links, hidden files, odd names, other formats, replaced and damaged files."""

import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_images import SIZE, make_images, tiny_autoencoder

from vqnat_plugin.errors import DataError
from vqnat_plugin.imaging import listing
from vqnat_plugin.imaging.codes import decode, encode, read_codes
from vqnat_plugin.imaging.listing import list_files
from vqnat_plugin.imaging.reading import are_jpeg, open_split, read_images

RGB = make_images(1, 5)[0].transpose(1, 2, 0)


@pytest.fixture(autouse=True)
def no_messages_of_pillow(caplog: pytest.LogCaptureFixture) -> None:
    """fairseq lowers the root's level in some tests, and Pillow then tells how it decodes."""
    caplog.set_level("INFO")


def put(path: Path, pixels: np.ndarray = RGB, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def names_in(folder: Path) -> list[str]:
    return read_images(folder, SIZE)[0]


def split(root: Path, cache: Path, name: str = "test") -> np.ndarray:
    return np.asarray(open_split(root, name, SIZE, cache, 0)[:])


def test_links_are_followed_but_not_in_circles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "elsewhere" / "deep" / "y.png")
    put(tmp_path / "z.png")
    folder = put(tmp_path / "images" / "x.png").parent
    (folder / "sub").symlink_to("../elsewhere")
    (folder / "z.png").symlink_to(tmp_path / "z.png")
    (folder / "again").symlink_to(folder)
    (tmp_path / "elsewhere" / "back").symlink_to("../images")
    (tmp_path / "linked").symlink_to("images")
    for start in (folder, tmp_path / "linked"):
        caplog.clear()
        assert names_in(start) == ["sub/deep/y.png", "x.png", "z.png"]
        (line,) = caplog.messages
        assert line == f"{start}: left out: 2 links (again, sub/back) to a folder above"
    (folder / "self").symlink_to("self")
    with pytest.raises(DataError, match="self: a link to self, which leads nowhere"):
        names_in(folder)


@pytest.mark.parametrize("name", ["gone.png", "gone"])
def test_links_to_nothing_are_named(name: str, tmp_path: Path) -> None:
    put(tmp_path / "train" / "a" / "x.png")
    (tmp_path / "train" / "a" / name).symlink_to("nowhere")
    for read in (lambda: names_in(tmp_path), lambda: split(tmp_path, tmp_path / "cache", "train")):
        with pytest.raises(DataError, match=f"a/{name}: a link to nowhere, which leads nowhere"):
            read()


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    put(root / "test" / "a" / "x.png")
    for hidden in (".thumbs/x.png", ".thumbs/.deep/y.png", "a/._x.png"):
        put(root / "test" / hidden)
    for other in ("a/notes.txt", "film.mpg", "data.h5"):
        (root / "test" / other).write_text("no image")
    os.mkfifo(root / "test" / "pipe.png")
    expected = f"{root / 'test'}: left out: 2 hidden, 4 other files (a/notes.txt, data.h5, film.mpg, ...)"
    assert names_in(root / "test") == ["a/x.png"]
    assert len(split(root, root / "test" / "cache")) == 1
    # The cache's own files are none of them, and what was decoded is not decoded again.
    assert len(split(root, root / "test" / "cache")) == 1
    assert caplog.messages == [expected] * 2
    (root / "test" / "a" / "x.png").unlink()
    with pytest.raises(DataError, match=r"test: holds no images \(left out: 2 hidden, 4 other files"):
        split(root, root / "test" / "cache")


def test_nobody_looks_into_hidden_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.png")
    (tmp_path / ".Trashes").mkdir()
    looked: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(Path(folder).name) or scan(folder))
    assert names_in(tmp_path) == ["a.png"] and ".Trashes" not in looked


def test_any_format_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    palette = Image.fromarray(RGB).quantize(16, dither=Image.Dither.NONE)
    pixels = np.asarray(palette.convert("RGB"))
    names = [f"{suffix}.{suffix}" for suffix in ("bmp", "gif", "pcx", "png", "ppm", "qoi", "tga", "tiff")]
    for name in names:
        palette.convert("P" if name == "gif.gif" else "RGB").save(tmp_path / name)
    Image.fromarray(pixels).save(tmp_path / "webp.WEBP", lossless=True)
    Image.fromarray(pixels).save(tmp_path / "without", "PNG")
    Image.fromarray(pixels).save(tmp_path / "wrong.jpg", "PNG")
    found, images = read_images(tmp_path, SIZE)
    assert found == sorted([*names, "webp.WEBP", "without", "wrong.jpg"]) and caplog.messages == []
    assert all(np.array_equal(image, pixels.transpose(2, 0, 1)) for image in images)


@pytest.mark.parametrize("suffix", ["gif", "png", "tiff", "webp"])
def test_the_first_of_several_images_is_read(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = (Image.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "lime", "blue"))
    first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=others, lossless=True)
    assert read_images(tmp_path, SIZE)[1][0, :, 0, 0].tolist() == [255, 0, 0]
    assert caplog.messages == [f"{tmp_path}: the first image is read of 1 animated file (x.{suffix})"]


def test_gif_classes_beside_png_classes(tmp_path: Path) -> None:
    put(tmp_path / "test" / "cat" / "1.gif", RGB[..., 0])
    put(tmp_path / "test" / "dog" / "1.png")
    cat, dog = split(tmp_path, tmp_path / "cache")
    assert np.array_equal(cat, np.stack([RGB[..., 0]] * 3)) and np.array_equal(dog, RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_images_are_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    upright = RGB
    # What a camera stores that is held like this.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(tmp_path / f"x.{suffix}", np.ascontiguousarray(stored), exif=exif, lossless=True)
    assert np.array_equal(read_images(tmp_path, SIZE)[1][0], upright.transpose(2, 0, 1))


def test_colours_with_one_form_in_rgb(tmp_path: Path) -> None:
    grey, opaque = RGB[..., :1], np.full((SIZE, SIZE, 1), 255, np.uint8)
    put(tmp_path / "1.png", grey[..., 0] > 100)
    put(tmp_path / "L.png", grey[..., 0])
    put(tmp_path / "LA.png", np.concatenate([grey, opaque], 2))
    put(tmp_path / "RGBA.png", np.concatenate([RGB, opaque], 2))
    # A colour is declared to be transparent, but no pixel has it.
    put(tmp_path / "RGB.png", transparency=(1, 2, 3))
    names, images = read_images(tmp_path, SIZE)
    three = grey.repeat(3, 2)
    expected = {"1": (three > 100) * 255, "L": three, "LA": three, "RGB": RGB, "RGBA": RGB}
    for name, image in zip(names, images, strict=True):
        assert np.array_equal(image.transpose(1, 2, 0), expected[name.removesuffix(".png")]), name


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("I;16", "png"), ("I;16", "tiff"), ("CMYK", "jpg"), ("F", "tiff"), ("LAB", "tiff")),
        *(("RGBA", "webp"), ("LA", "png"), ("PA", "png"), ("P", "gif")),
    ],
)
def test_colours_without_are_refused(mode: str, suffix: str, tmp_path: Path) -> None:
    if mode in ("PA", "P"):
        Image.new("P", (SIZE, SIZE)).save(tmp_path / f"x.{suffix}", transparency=0)
    else:
        Image.new(mode, (SIZE, SIZE)).save(tmp_path / f"x.{suffix}")
    with pytest.raises(DataError, match=rf"x\.{suffix}: has colour mode .*convert it first"):
        names_in(tmp_path)


@pytest.mark.parametrize("shape", [(1, 1), (SIZE, SIZE + 1), (12000, 12000), (60000, 60000)])
def test_other_sizes_are_refused_before_they_are_unpacked(
    shape: tuple[int, int], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    content = io.BytesIO()
    Image.new("1", (1, 1)).save(content, "BMP")
    header = bytearray(content.getvalue())
    header[18:26] = shape[0].to_bytes(4, "little") + shape[1].to_bytes(4, "little")
    (tmp_path / "x.bmp").write_bytes(header)
    with pytest.raises(DataError, match=r"x\.bmp: (has \d+x\d+ pixels|cannot be read .*bomb)"):
        names_in(tmp_path)
    assert not recwarn.list


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "ppm", "tga", "tiff", "webp"])
def test_damaged_images_are_one_line(suffix: str, tmp_path: Path) -> None:
    whole = put(tmp_path / f"x.{suffix}").read_bytes()
    noise = np.random.default_rng(1)
    for length in (0, 1, 10, len(whole) // 2, len(whole) * 3 // 4):
        (tmp_path / f"x.{suffix}").write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"x\.{suffix}: "):
            names_in(tmp_path)
    for _ in range(40):
        changed = bytearray(whole)
        for place in noise.integers(0, len(whole), 3):
            changed[place] = noise.integers(256)
        (tmp_path / f"x.{suffix}").write_bytes(changed)
        try:
            names_in(tmp_path)
        except DataError as error:
            assert f"x.{suffix}: " in str(error)


def test_every_replaced_file_is_noticed(tmp_path: Path) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    old, new = make_images(2, 8).transpose(0, 2, 3, 1)
    file = put(tmp_path / "store" / "1" / "a" / "x.ppm", old)
    put(tmp_path / "store" / "2" / "a" / "x.ppm", new)
    time = file.stat().st_mtime_ns
    for other in tmp_path.rglob("*.ppm"):
        os.utime(other, ns=(time, time))
    root.mkdir()
    (root / "test").symlink_to("../store/1")

    def shown() -> bytes:
        return split(root, cache)[0].transpose(1, 2, 0).tobytes()

    assert shown() == old.tobytes()
    # Behind the link, of equal size and time.
    put(file, new)
    os.utime(file, ns=(time, time))
    assert shown() == new.tobytes()
    put(file, old)
    assert shown() == old.tobytes()
    (root / "test").unlink()
    (root / "test").symlink_to("../store/2")
    assert shown() == new.tobytes()
    assert len(list(cache.iterdir())) == 1


def test_folders_that_change_places_are_noticed_within_a_tick_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Entry:
        """Of a file system whose clock stands still."""

        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.entry = entry

        def __getattr__(self, name: str) -> Any:
            return getattr(self.entry, name)

        def stat(self) -> Any:
            found = self.entry.stat()
            return SimpleNamespace(st_size=found.st_size, st_mtime_ns=1, st_ctime_ns=1, st_ino=found.st_ino)

    entries = listing._entries
    monkeypatch.setattr(listing, "_entries", lambda folder: [Entry(entry) for entry in entries(folder)])
    a, b = (put(tmp_path / "data" / name / "x.png").parent for name in "ab")
    digests = []
    for _ in range(3):
        digests.append(list_files(tmp_path / "data").digest)
        a.rename(tmp_path / "c")
        b.rename(a)
        (tmp_path / "c").rename(b)
    assert digests[0] != digests[1] and digests[0] == digests[2]


def test_several_sets_of_images_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(DataError, match="data: cannot be cifar10 and svhn; keep each in a folder of its own"):
        open_split(tmp_path / "data", "train", 32, tmp_path / "cache", 0, download="svhn")
    put(tmp_path / "data" / "train" / "a" / "x.png")
    for name in ("train", "test"):
        with pytest.raises(DataError, match="data: cannot be cifar10 and class folders; keep each"):
            split(tmp_path / "data", tmp_path / "cache", name)


def test_a_moved_folder_is_the_same(tmp_path: Path) -> None:
    folder = put(tmp_path / "a" / "x.png").parent
    (folder / "link").symlink_to("x.png")
    before = list_files(folder).digest
    assert list_files(folder.rename(tmp_path / "b")).digest == before


def test_damaged_caches_are_made_anew(tmp_path: Path) -> None:
    put(tmp_path / "data" / "test" / "a" / "x.png")
    first = split(tmp_path / "data", tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    other = io.BytesIO()
    np.save(other, first.astype(np.int8))
    damaged = [b"", b"no array", whole[:40], whole[:-1], whole + b"x", other.getvalue(), b"PK\3\4" + whole]
    damaged += [whole[:place] + b"(" + whole[place + 1 :] for place in range(10, 100, 3)]
    for content in damaged:
        file.write_bytes(content)
        assert np.array_equal(split(tmp_path / "data", tmp_path / "cache"), first)


ODD_NAMES = [
    "ünï 猫.png",
    "猫" * 83 + ".png",
    "a\nb.png",
    " tab\t .png",
    "e\u0301.png",
    "🐈" * 40 + ".png",
    "'\"$(x)\\.png",
]
# The last ones are not UTF-8.
ODD_NAMES += ["a/x.png", "b/x.png", "X.png", "x.PNG", "x.gif", "ä ö/ü.png", "\udcff.png", "\udce9/x.png"]


def test_names_survive_both_ways(tmp_path: Path) -> None:
    model, file = tiny_autoencoder(), tmp_path / "codes.npz"
    for name in ODD_NAMES:
        put(tmp_path / "images" / name)
    assert encode(model, tmp_path / "images", file) == len(ODD_NAMES)
    assert sorted(read_codes(model, file)[0]) == sorted(ODD_NAMES)
    assert decode(model, file, tmp_path / "again") == len(ODD_NAMES)
    made = {path.relative_to(tmp_path / "again").as_posix() for path in (tmp_path / "again").rglob("*.*")}
    assert made == {name + ".png" * name.endswith("gif") for name in ODD_NAMES}


def test_codes_take_no_more_memory_than_their_file(tmp_path: Path) -> None:
    model, file = tiny_autoencoder(), tmp_path / "codes.npz"
    codes = np.zeros((1 << 16, *model.codes_shape), np.int64)
    np.savez_compressed(file, names=np.array(["a"]), codes=codes, digest=np.array(model.digest()))
    assert file.stat().st_size < codes.nbytes / 100
    with pytest.raises(DataError, match="is compressed"):
        read_codes(model, file)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.jpg", "x.jpg.png"], r"'x.jpg' and 'x.jpg.png' would both become 'x.jpg.png'"),
        (["a/x.jpg", "a/x.jpg.png/y.png"], r"'a/x.jpg' would become a file where 'a/x.jpg.png/y.png' needs"),
        (["x" * 251 + ".bmp"], r"gives no name of a file; rename it"),
    ],
)
def test_names_that_decoding_could_not_write_are_refused_at_once(
    names: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        put(tmp_path / "images" / name)
    # Training needs no names.
    shutil.copytree(tmp_path / "images", tmp_path / "data" / "test")
    assert len(split(tmp_path / "data", tmp_path / "cache")) == len(names)
    monkeypatch.setattr("vqnat_plugin.imaging.reading.read_image", lambda *_: pytest.fail("work begins"))
    with pytest.raises(DataError, match=message):
        encode(tiny_autoencoder(), tmp_path / "images", tmp_path / "codes.npz")
    assert not (tmp_path / "codes.npz").exists()


def test_copies_are_found_behind_links(tmp_path: Path) -> None:
    put(tmp_path / "store" / "1.jpe")
    (tmp_path / "data" / "train").mkdir(parents=True)
    put(tmp_path / "data" / "train" / ".cache" / "1.jpg")
    assert not are_jpeg(tmp_path / "data")
    (tmp_path / "data" / "train" / "a").symlink_to("../../store")
    assert are_jpeg(tmp_path / "data")
