"""The server: what it answers, whatever is asked and however many ask."""

import asyncio
import dataclasses
import json
import math
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import Gate, ask, served, translate, wait_for_waiting

from vqnat_plugin.errors import UsageError
from vqnat_plugin.runtime import Translator
from vqnat_plugin.runtime.exported import Exported
from vqnat_plugin.runtime.limits import Limits
from vqnat_plugin.runtime.request import parse
from vqnat_plugin.runtime.server import Service, listen

LINES = ["Mann schläft!", "", "Hund", "Café Hund schläft halb-wach", "☃ <b>Hund</b> \u2028 Mann"]


@pytest.fixture(scope="module")
def port(german_exported: Path) -> Iterator[int]:
    with served(german_exported, max_sentences=5, max_bytes=40000, max_candidates=8) as port:
        yield port


def test_answers_are_those_of_the_translator(port: int, german_exported: Path) -> None:
    translator = Translator(german_exported)
    status, answer = translate(port, LINES)
    assert (status, answer["translations"]) == (200, translator.translate(LINES))
    assert answer["milliseconds"] > 0 and "details" not in answer
    assert translate(port, LINES[0])[1]["translations"] == translator.translate(LINES[:1])
    assert translate(port, [])[1]["translations"] == []
    assert translate(port, " ")[1]["translations"] == [""]
    options: dict[str, Any] = {"candidates": 4, "min_len": 5, "lenpen": 0.5, "max_len_b": 7}
    expected = translator.candidates(LINES, **options)
    status, answer = translate(port, LINES, details=True, **options)
    assert answer["translations"] == translator.translate(LINES, **options)
    for found, wanted in zip(answer["details"], expected, strict=True):
        for ours, theirs in zip(found, wanted, strict=True):
            assert (ours["text"], ours["tokens"], ours["codes"]) == (theirs.text, theirs.tokens, theirs.codes)
            assert ours["score"] == pytest.approx(theirs.score, abs=1e-5)
    _, answer = translate(port, LINES, details=True, candidates=4, n_best=2)
    assert [len(found) for found in answer["details"]] == [2, 1, 2, 2, 2]


def test_the_sentences_of_a_text_are_translated_one_by_one(port: int, german_exported: Path) -> None:
    translator = Translator(german_exported)
    text = ["Mann schläft! Hund schläft! Mann", " ", "Hund", "Hund \u2028 Mann."]
    expected = translator.translate(text, split_sentences=True)
    assert expected != translator.translate(text) and expected[1] == ""
    one_by_one = translator.translate(["Mann schläft!", "Hund schläft!", "Mann"])
    assert expected[0] == " ".join(one_by_one) and all(one_by_one)
    assert translate(port, text)[1]["translations"] == expected
    assert translate(port, text, split_sentences=True)[1]["translations"] == expected
    whole = translator.translate(text)
    assert translate(port, text, split_sentences=False)[1]["translations"] == whole
    assert translate(port, text, details=True)[1]["translations"] == whole
    # A sentence that is longer than what the model has learnt is cut as well.
    long = "Hund " * (translator.exported.usual + 8)
    assert translate(port, long)[1]["translations"] == translator.translate([long], split_sentences=True)
    # The limit of sentences, 5, is that of all of them; blank lines are none.
    assert translate(port, ["Hund"] * 5 + [""] * 50)[0] == 200
    for many in ([*text, "Hund schläft! Mann schläft!"], "Hund " * 1200):
        status, answer = translate(port, many)
        assert status == 413 and "text: more than 5 sentences" in answer["error"]
    # Only a single line is bounded in itself.
    assert translate(port, "\n".join(["Hund!" + " " * 9000] * 4))[0] == 200


def test_tokens_have_no_sentences(german_exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = dataclasses.replace(Exported.read(german_exported), text=False)
    assert not parse(b'{"text": "a. b."}', Limits(), exported).split_sentences
    with pytest.raises(UsageError, match="split_sentences true: this model was trained on tokens"):
        parse(b'{"text": "a. b.", "split_sentences": true}', Limits(), exported)
    monkeypatch.setattr("vqnat_plugin.text.pipeline.TextPipeline.find", lambda folder: None)
    with pytest.raises(UsageError, match="has no text pipeline"):
        Translator(german_exported).translate(["a. b."], split_sentences=True)


def test_groups_say_which_code_wrote_which_words(port: int) -> None:
    _, answer = translate(port, LINES, details=True, candidates=8, min_len=6)
    for candidate in (each for found in answer["details"] for each in found):
        groups = candidate["groups"]
        assert [group["code"] for group in groups] == candidate["codes"]
        assert [token for group in groups for token in group["tokens"]] == candidate["tokens"]
        assert "".join(group["text"] for group in groups) == candidate["text"]
        # The model has one halving.
        assert all(len(group["tokens"]) == 2 for group in groups[: len(candidate["tokens"]) // 2])
        for group in groups:
            letters = "".join(group["tokens"]).replace("@@", "").replace("@-@", "-").replace("￭", "")
            assert group["text"].replace(" ", "") == letters.replace("▁", "")


def test_a_teacher_ranks_and_checks(exported_pair: Path) -> None:
    translator, lines = Translator(exported_pair), ["w3 w5 w7", "", "w9 w1"]
    with served(exported_pair) as port:
        for options in (
            {"candidates": 4, "rescore": True},
            {"candidates": 1, "verify": True},
            {"candidates": 1, "verify": True, "tolerance": 1.5},
        ):
            status, answer = translate(port, lines, details=True, **options)
            assert (status, answer["translations"]) == (200, translator.translate(lines, **options))
            expected = translator.candidates(lines, **options)
            for found, wanted in zip(answer["details"], expected, strict=True):
                assert found[0]["text"] == wanted[0].text
                assert found[0]["score"] == pytest.approx(wanted[0].score, abs=1e-5)
        status, answer = translate(port, "w3", details=True, verify=True, n_best=2)
        assert status == 400 and "since verify leaves one" in answer["error"]


def test_requests_of_different_options_at_once(port: int, german_exported: Path) -> None:
    translator = Translator(german_exported)
    options = [{}, {"candidates": 3}, {"candidates": 3, "lenpen": 0.0}, {"max_len_b": 2}, {"min_len": 9}]
    asked = [(LINES[i % len(LINES)], options[i // 5 % len(options)]) for i in range(75)]
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda each: translate(port, each[0], **each[1]), asked))
    for (line, chosen), (status, answer) in zip(asked, answers, strict=True):
        assert (status, answer["translations"]) == (200, translator.translate([line], **chosen))


def test_what_arrives_while_a_batch_is_decoded_is_the_next_one(german_exported: Path) -> None:
    translator = Translator(german_exported)
    expected = translator.translate(LINES)
    with ThreadPoolExecutor(20) as pool, served(translator) as port:
        gate = Gate(translator)
        asked = [pool.submit(translate, port, LINES[0])]
        assert gate.entered.acquire(timeout=60)
        asked += [pool.submit(translate, port, LINES[:3]) for _ in range(6)]
        asked += [pool.submit(translate, port, LINES[3], candidates=2) for _ in range(5)]
        # An empty line is not decoded.
        wait_for_waiting(port, 6 * 2 + 5)
        gate.open.set()
        answers = [each.result() for each in asked]
    assert sorted(sentences for sentences, _ in gate.batches) == [1, 5, 12]
    assert all(status == 200 for status, _ in answers)
    assert [answer["translations"] for _, answer in answers[:7]] == [expected[:1], *[expected[:3]] * 6]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"text": ', 400, "the request is no JSON"),
        (b'{"text": "\xff"}', 400, "the request is no JSON"),
        (b"[" * 30000, 400, "the request is no JSON"),
        (["Hund"], 400, "the request is no JSON object"),
        ({}, 400, "text: is missing"),
        ({"text": None}, 400, "text null: needs a text, or a list of texts"),
        ({"text": ["a", 7]}, 400, "text 7: needs a text"),
        ({"text": "a", "candidate": 2}, 400, "unknown field 'candidate'; did you mean candidates?"),
        ({"text": "a", "candidates": "2"}, 400, 'candidates "2": needs a whole number'),
        ({"text": "a", "candidates": True}, 400, "candidates true: needs a whole number"),
        ({"text": "a", "candidates": 0}, 400, "candidates 0: needs at least 1"),
        ({"text": "a", "candidates": 9}, 400, "candidates 9: needs at most 8"),
        ({"text": "a", "lenpen": None}, 400, "lenpen null: needs a number"),
        ({"text": "a", "lenpen": math.nan}, 400, "lenpen nan: needs a value from -50 to 50"),
        ({"text": "a", "lenpen": 10**400}, 400, "lenpen 1000"),
        ({"text": "a", "lenpen": 51}, 400, "lenpen 51.0: needs a value from -50 to 50"),
        ({"text": "a", "unkpen": -1e9}, 400, "unkpen -1000000000.0: needs at least -1000000"),
        ({"text": "a", "max_len_a": -1}, 400, "max_len_a -1.0: needs at least 0"),
        ({"text": "a", "min_len": 3, "max_len_b": 2}, 400, "min_len 3: needs max_len_b"),
        ({"text": "a", "max_len_b": 10**9}, 400, "max_len_b 1000000000: needs a value from 0 to 100000"),
        ({"text": "a", "max_len_a": 1e300}, 400, "max_len_a 1e+300: needs a value from 0 to 100000"),
        ({"text": "a", "max_len_b": 10**5}, 400, "allow 100000 sub-words, needs at most 1024"),
        ({"text": "a", "max_len_a": 1e5}, 400, "sub-words, needs at most 1024"),
        ({"text": "a", "rescore": 1}, 400, "rescore 1: needs true or false"),
        ({"text": "a", "rescore": True}, 400, "rescore true: this model was exported without a teacher"),
        ({"text": "a", "verify": True}, 400, "verify true: this model was exported without a teacher"),
        ({"text": "a", "n_best": 1}, 400, "n_best 1: needs details true"),
        ({"text": "a", "split_sentences": 1}, 400, "split_sentences 1: needs true or false"),
        ({"text": "a", "split_sentences": True, "details": True}, 400, "details are those of a sentence"),
        (
            {"text": "a", "beam": 4},
            400,
            "unknown field 'beam'; there are text, candidates, rescore, verify, ",
        ),
        ({"text": "a", "details": True, "n_best": 2}, 400, "n_best 2: needs from 1 to 1"),
        ({"text": ["a"] * 6}, 413, "6 sentences, needs at most 5"),
        ({"text": "a" * 40000}, 413, "more than 40000 bytes"),
        (
            {"text": ["a", "Hund " * 1200], "split_sentences": False},
            422,
            "line 2 has 1201 tokens, the model reads 1024 at most",
        ),
        (
            {"text": ["a", "a\n" + "a" * 20000]},
            422,
            "line 2 has 20000 characters without a line break, needs at most 16384",
        ),
        (
            {"text": ["a", "a\n" * 10000], "split_sentences": False},
            422,
            "line 2 has 20000 characters in a sentence, needs at most 16384",
        ),
        ({"text": "\ud83d"}, 422, "line 1 holds half a character"),
        ({"text": "a", "\ud83d": 1}, 400, "unknown field '\\ud83d'"),
        ({"text": [["\ud83d"]]}, 400, 'text ["\\ud83d"]: needs a text'),
        ({"text": "a", "lenpen": "\ud83d"}, 400, 'lenpen "\\ud83d": needs a number'),
    ],
)
def test_mistakes_in_a_request(body: Any, status: int, message: str, port: int) -> None:
    found, answer = ask(port, "POST", "/translate", body)
    assert found == status and message in answer["error"]
    assert len(answer["error"].splitlines()) == 1


def test_other_mistakes(port: int) -> None:
    assert ask(port, "GET", "/nothing")[0] == 404
    status, answer = ask(port, "GET", "/translate")
    assert status == 405 and answer["headers"]["allow"] == "POST"
    assert ask(port, "DELETE", "/")[0] == 405
    # What a form of another page could send.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"):
        status, answer = ask(port, "POST", "/translate", b'{"text": "a"}', {"Content-Type": kind})
        assert status == 415 and "needs application/json" in answer["error"]
    assert ask(port, "POST", "/translate", b'{"text": "a"}', {})[0] == 415
    status, answer = ask(port, "OPTIONS", "/translate", headers={"Origin": "http://evil.example"})
    assert status == 405 and not any("access-control" in name.lower() for name in answer["headers"])
    kind = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert ask(port, "POST", "/translate", b'{"text": "a"}', kind)[0] == 200


def test_a_client_may_go_away(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = b"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 99\r\n\r\n{")
    assert translate(port, "Hund")[0] == 200
    assert capfd.readouterr().err == ""


def test_what_nobody_waits_for_any_more_is_given_up(
    german_exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    translator = Translator(german_exported)
    with ThreadPoolExecutor(2) as pool, served(translator) as port:
        gate = Gate(translator)
        asked = [pool.submit(translate, port, "Hund")]
        assert gate.entered.acquire(timeout=60)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            body = json.dumps({"text": ["Hund", "Mann"]}).encode()
            head = "POST /translate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_for_waiting(port, 2)
        wait_for_waiting(port, 0)
        asked.append(pool.submit(translate, port, ["Hund"] * 3))
        wait_for_waiting(port, 3)
        gate.open.set()
        assert [each.result()[0] for each in asked] == [200, 200]
    assert [sentences for sentences, _ in gate.batches] == [1, 3]
    assert capfd.readouterr().err == ""


def test_what_takes_too_long_is_given_up(german_exported: Path) -> None:
    translator = Translator(german_exported)
    with ThreadPoolExecutor(1) as pool, served(translator, timeout=2) as port:
        gate = Gate(translator)
        first = pool.submit(translate, port, "Hund")
        assert gate.entered.acquire(timeout=60)
        status, answer = first.result()
        assert status == 504 and answer["error"] == "it took longer than 2 seconds"
        # That one is still being decoded; these are given up before they are begun.
        assert translate(port, ["Hund", "Mann"])[0] == 504
        gate.open.set()
    assert [sentences for sentences, _ in gate.batches] == [1]


def test_a_request_that_does_not_arrive_is_the_fault_of_the_client(german_exported: Path) -> None:
    with (
        served(german_exported, timeout=0.5) as port,
        socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
    ):
        head = b"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 99\r\n\r\n{")
        answer = connection.makefile("rb").read(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the request took longer than 0.5 seconds to arrive" in answer


@pytest.mark.parametrize(("before", "sent"), [(0, b""), (0, b"POST /tr"), (1, b"POST /tr")])
def test_a_connection_without_a_request_is_closed(before: int, sent: bytes, german_exported: Path) -> None:
    with (
        served(german_exported, timeout=0.5) as port,
        socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
        connection.makefile("rb") as answers,
    ):
        for _ in range(before):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answers.readline().startswith(b"HTTP/1.1 200 ")
        connection.sendall(sent)
        assert b"HTTP/1.1" not in answers.read()


def test_what_nobody_waits_for_is_not_described(
    german_exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what has begun is finished."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(*_: Any) -> dict[str, Any]:
        begun.release()
        assert go_on.wait(60)
        return {"text": ""}

    monkeypatch.setattr("vqnat_plugin.runtime.server.describe", slow)
    with served(german_exported, timeout=5) as port:
        assert translate(port, ["Hund"] * 5, details=True)[0] == 504
        go_on.set()
    assert begun.acquire(blocking=False) and not begun.acquire(blocking=False)


def test_a_path_is_not_guessed(port: int) -> None:
    for method, path in (("POST", "/translate/"), ("GET", "/health/")):
        status, answer = ask(port, method, path, {} if method == "POST" else None)
        assert status == 404 and answer["error"] == f"{path}: Not Found"


def test_a_line_without_text_stays_empty(port: int) -> None:
    _, answer = translate(port, ["\x1a", "Hund", " "], details=True)
    assert answer["details"][0] == answer["details"][2] != answer["details"][1]
    assert translate(port, ["\x1a", "", "\x7f"])[1]["translations"] == ["", "", ""]


def test_a_full_queue_takes_nothing(german_exported: Path) -> None:
    translator = Translator(german_exported)
    numbers, encoded = translator.numbers, list[str]()

    def noted(line: str) -> list[int]:
        encoded.append(line)
        return numbers(line)

    translator.numbers = noted  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as pool, served(translator, queue=2, max_sentences=2) as port:
        gate = Gate(translator)
        asked = [pool.submit(translate, port, "Hund")]
        assert gate.entered.acquire(timeout=60)
        asked += [pool.submit(translate, port, "Hund") for _ in range(2)]
        wait_for_waiting(port, 2)
        status, answer = translate(port, "Katze")
        assert status == 503 and answer["headers"]["retry-after"] == "1"
        assert answer["error"] == "2 sentences wait; try again later"
        # Its text, which may be long, has cost nothing.
        assert "Katze" not in encoded and encoded.count("Hund") == 3
        gate.open.set()
        assert [each.result()[0] for each in asked] == [200] * 3


def test_faults_are_for_the_log(german_exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    translator = Translator(german_exported)
    with served(translator) as port:

        def fail(*_: Any) -> Any:
            raise RuntimeError("ill luck")

        decode, translator.decode = translator.decode, fail  # type: ignore[method-assign]
        status, answer = translate(port, "Hund")
        assert status == 500 and answer["error"] == "the server failed; its log says why"
        translator.decode = decode  # type: ignore[method-assign]
        assert translate(port, "Hund")[0] == 200
    assert "ill luck" in capfd.readouterr().err


def test_a_server_that_stops_says_so(german_exported: Path) -> None:
    app = Service(Translator(german_exported), Limits()).app()
    sent: list[Any] = []

    async def ask_both() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b'{"text": "Hund"}'}

        async def send(message: Any) -> None:
            sent.append(message)

        async with app.router.lifespan_context(app):
            pass
        headers = [(b"content-type", b"application/json")]
        for method, path in (("GET", "/health"), ("POST", "/translate")):
            scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
            await app(scope, receive, send)

    asyncio.run(ask_both())
    assert [message["status"] for message in sent[::2]] == [503, 503]
    assert all(b"the server stops" in message["body"] for message in sent[1::2])


def test_model_and_page(port: int, german_exported: Path) -> None:
    status, model = ask(port, "GET", "/model")
    config = json.loads((german_exported / "config.json").read_text())
    assert status == 200
    for name in ("source_lang", "target_lang", "precision", "sizes", "checkpoint", "max_source_positions"):
        assert model[name] == config[name]
    assert model["decoding"]["candidates"] == 1 and model["limits"]["max_candidates"] == 8
    status, page = ask(port, "GET", "/")
    assert status == 200 and page["text"].startswith("<!DOCTYPE html>")
    # Nothing from elsewhere, nothing that is read as HTML.
    assert "http" not in page["text"].replace("http-equiv", "") and "innerHTML" not in page["text"]
    policy = page["headers"]["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'sha256-" in policy
    assert page["headers"]["x-content-type-options"] == "nosniff"


def test_sockets() -> None:
    with listen("localhost", 0, 60) as taken:
        # Or the end of each answer would wait for the client.
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: Address already in use"):
            listen("localhost", port, 60)
    with pytest.raises(UsageError, match=r"--host no\.such\.host\.invalid: is no address"):
        listen("no.such.host.invalid", 0, 60)
    with pytest.raises(UsageError, match=r"--host 192\.0\.2\.1 --port 0: "):
        listen("192.0.2.1", 0, 60)
