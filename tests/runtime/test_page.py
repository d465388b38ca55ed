"""The page in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import served

from vqnat_plugin.runtime import Translator

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not BROWSER or not DRIVER, reason="needs Chromium and chromedriver")
ILL = "<img src=x onerror=\"document.title='hit'\"> Hund"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.chrome.service.Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(german_exported: Path) -> Iterator[str]:
    with served(german_exported, max_candidates=8, max_sentences=5) as port:
        yield f"http://127.0.0.1:{port}/"


class Page:
    """What a person does with it, and sees."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get(address)
        self.wait("return document.querySelectorAll('#candidates option').length")

    def wait(self, script: str) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, 60, poll_frequency=0.02).until(
            lambda it: it.execute_script(script)
        )

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def texts(self, selector: str) -> list[str]:
        return [each.get_property("textContent") for each in self.all(selector)]

    def translate(self, text: str) -> None:
        """Type, press Ctrl+Enter, wait for what comes."""
        from selenium.webdriver.common.keys import Keys

        [box] = self.all("#text")
        box.clear()
        box.send_keys(text, Keys.CONTROL + Keys.ENTER)
        self.wait("return !document.getElementById('go').disabled")


def test_a_person_translates(browser: Any, address: str, german_exported: Path) -> None:
    page, translator = Page(browser, address), Translator(german_exported)
    assert page.texts("#model")[0].startswith(
        "German to English · 16 codes, each of them writes up to 2 sub-words"
    )
    assert page.texts("#candidates option") == ["1", "4", "8"]
    # This model has no teacher.
    assert not page.all("#rescore")[0].is_displayed()
    lines = ["Mann schläft halb-wach!", "", "Hund"]
    page.translate("\n".join(lines))
    expected = translator.candidates([lines[0], lines[2]])
    articles = page.all("article")
    assert len(articles) == 2 and page.texts("#error") == [""]
    assert page.texts("article > p:first-child") == [lines[0], lines[2]]
    assert [text.replace("∅", "") for text in page.texts(".translation")] == [
        each[0].text for each in expected
    ]
    assert page.texts("article tbody button") == [each.text for found in expected for each in found]
    assert page.texts("article tbody td.number") == [
        f"{each.score:.3f}" for found in expected for each in found
    ]
    assert page.texts("#state")[0].endswith(" ms")
    # Groups of the first sentence, and the note beside the one that is pointed at.
    groups = articles[0].find_elements("css selector", ".group")
    assert [int(each.get_attribute("data-code")) for each in groups] == expected[0][0].codes
    script = "return getComputedStyle(arguments[0], '::after').content"
    assert browser.execute_script(script, groups[0]) == "none"
    browser.execute_script("arguments[0].focus({focusVisible: true})", groups[0])
    note = f"code {expected[0][0].codes[0]}: {' '.join(expected[0][0].tokens[:2])}"
    assert browser.execute_script(script, groups[0]) == f'"{note}"'
    # Another candidate is shown when it is chosen.
    articles[0].find_elements("css selector", "tbody button")[1].click()
    shown = [
        int(each.get_attribute("data-code")) for each in articles[0].find_elements("css selector", ".group")
    ]
    assert shown == expected[0][1].codes
    assert browser.get_log("browser") == []


def test_text_stays_text(browser: Any, address: str) -> None:
    page = Page(browser, address)
    page.translate(ILL)
    assert page.texts("article > p:first-child") == [ILL]
    assert page.all("#results img") == [] and browser.title == "Translation with codes"
    # Nor would a script run that got in.
    browser.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", ILL)
    page.wait("return document.querySelector('body > img').complete")
    assert browser.title == "Translation with codes"
    browser.get_log("browser")


def test_mistakes_are_shown_and_go_away(browser: Any, address: str) -> None:
    page = Page(browser, address)
    browser.execute_script("document.getElementById('text').value = arguments[0]", "Hund\n" + "Hund " * 1200)
    page.all("#go")[0].click()
    page.wait("return document.getElementById('error').textContent")
    assert page.texts("#error")[0].startswith("line 2 has 1201 tokens, the model reads 1024 at most")
    assert page.all("article") == []
    page.translate("Hund")
    assert page.texts("#error") == [""] and len(page.all("article")) == 1
    page.translate(" \n ")
    assert len(page.all("article")) == 1
