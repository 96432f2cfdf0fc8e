"""The page of tools.cells in a real browser, Debian's Chromium without a window: `make browser`.

Pictures of the page are left in temp/browser, to be looked at.
"""

import json
import re
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, SMALL, end, run_script, start
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

# What 16 units learn from few lines is chance, so hardly a unit may have a name. The buttons of the
# page need some: here a weak one is named too.
NAME_THE_WEAK = """import sys
from backstage import running
from tools import cells
cells.NAMED, cells.LEARNED = 0.3, -1
sys.exit(running.run(cells.main, sys.argv[1:]))
"""
PICTURES = ROOT / 'temp' / 'browser'
LINE = (
    'FIRST LORD:\nTo be, "or not" (so they say) to be, that is </script> the <!-- question & more.'
    '\n\n'
)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """The address of the page of a small model that reads a text of all kinds."""
    folder = tmp_path_factory.mktemp('browser')
    (folder / 'lines.txt').write_text(LINE * 60, encoding='utf-8')
    more = ('--text_file=lines.txt', '--clean_text=False', '--epochs=60', '--save_every=200')
    cells = folder / 'cells.py'
    cells.write_text(NAME_THE_WEAK, encoding='utf-8')
    read = '--text_file=lines.txt', '--characters=2000'
    for run in (
        run_script(*SMALL, *more, cwd=folder),
        end(start(sys.executable, str(cells), *read, cwd=folder)),
    ):
        assert run[::2] == (0, ''), run
    return (folder / 'temp' / 'cells.html').as_uri()


@pytest.fixture(scope='module')
def started():
    options = Options()
    options.binary_location = shutil.which('chromium')
    for argument in '--headless=new', '--no-sandbox', '--window-size=1240,820':
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    # The driver is named, so that selenium downloads none.
    browser = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
    yield browser
    browser.quit()


@pytest.fixture
def browser(started, page):
    """The browser, in which the page has just been loaded."""
    for log in 'browser', 'performance':
        started.get_log(log)
    scheme(started, 'light')
    started.get('about:blank')
    started.get(page)
    yield started
    assert started.get_log('browser') == []  # neither errors nor warnings, whatever was done


def scheme(browser, name):
    features = [{'name': 'prefers-color-scheme', 'value': name}]
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})


def press(browser, *keys):
    browser.switch_to.active_element.send_keys(*keys)


def find(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def colours(browser):
    """Return the background of each character, as it is computed."""
    script = 'return [...document.querySelectorAll("#text > span")].map(s => getComputedStyle(s)'
    return browser.execute_script(script + '.backgroundColor)')


def unit(browser):
    """Return which layer and unit are shown, counted from 1."""
    (tab,) = find(browser, '[role=tab][aria-selected=true]')
    number = re.match(r'Unit (\d+) of 16', find(browser, '#unit')[0].text).group(1)
    assert find(browser, '#slider')[0].get_attribute('value') == number
    address = f'#{tab.text[-1]}.{number}'
    WebDriverWait(browser, 10).until(lambda _: browser.current_url.endswith(address))
    return int(tab.text[-1]), int(number)


def test_it_shows_the_text_and_asks_nobody_for_anything(browser):
    shown = browser.execute_script('return document.getElementById("text").textContent')
    assert shown == (LINE * 60)[:2000]
    assert len(set(colours(browser))) > 10
    log = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    sent = [
        e['params']['request']['url'] for e in log if e['method'] == 'Network.requestWillBeSent'
    ]
    assert {url.split(':')[0] for url in sent} <= {'file', 'data', 'about'}
    assert sum(url.startswith('file') for url in sent) == 1


def test_keys_tabs_the_slider_and_the_address_change_the_unit_and_the_colours(browser, page):
    press(browser, '1')
    (_, number), before = unit(browser), colours(browser)
    press(browser, Keys.ARROW_RIGHT)
    assert unit(browser) == (1, number % 16 + 1)
    assert colours(browser) != before
    press(browser, Keys.ARROW_LEFT)
    assert unit(browser) == (1, number)
    assert colours(browser) == before
    find(browser, '[role=tab]')[1].click()
    assert unit(browser) == (2, number)
    assert colours(browser) != before
    browser.execute_script('slider.value = 5; slider.dispatchEvent(new Event("input"))')
    assert unit(browser) == (2, 5)
    browser.execute_script(  # a key that is held
        'for (let i = 0; i < 403; i++)'
        ' document.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}))'
    )
    assert unit(browser) == (2, (5 + 402) % 16 + 1)  # and the browser logs nothing
    browser.get(f'{page}#2.7')
    assert unit(browser) == (2, 7)


def test_the_named_units_are_a_click_or_a_key_away(browser):
    buttons = find(browser, '#named button')
    assert len(buttons) > 1
    first, second = (tuple(map(int, b.text.split()[0].split('.'))) for b in buttons[:2])
    assert unit(browser) == first  # with which the page begins
    press(browser, 'n')
    assert unit(browser) == second
    assert buttons[1].get_attribute('aria-pressed') == 'true'
    press(browser, 'p')
    assert unit(browser) == first
    buttons[1].click()
    assert unit(browser) == second


def test_under_the_mouse_are_the_five_likeliest_next_characters(browser):
    place = LINE.index('question') + 2
    characters = find(browser, '#text > span')
    webdriver.ActionChains(browser).move_to_element(characters[place]).perform()
    rows = [row.text.split('\n') for row in find(browser, '#following li')]
    percents = [float(row[1].split()[0]) for row in rows]
    assert len(rows) == 5 and percents == sorted(percents, reverse=True)
    assert rows[0][0] == 's'  # overfit
    assert [row.text[0] for row in find(browser, '#following .came')] == ['s']
    assert 'que' in find(browser, '#after')[0].text
    press(browser, Keys.SHIFT, Keys.ARROW_RIGHT)
    assert 'ques' in find(browser, '#after')[0].text


def luminance(colour):
    """Return the relative luminance of a colour, of three numbers from 0 to 255 (WCAG 2)."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def numbers(colour):
    """Return red, green and blue, and alpha, of a colour of CSS."""
    red, green, blue, *alpha = map(float, re.findall(r'[\d.]+', colour))
    return np.array([red, green, blue]), (alpha or [1])[0]


def contrast(text, background, page):
    """Return the contrast of a text with a background that lets the page shine through."""
    (over, alpha), (under, _) = numbers(background), numbers(page)
    mixed = alpha * over + (1 - alpha) * under
    low, high = sorted([luminance(numbers(text)[0]), luminance(mixed)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize('name', ['light', 'dark'])
def test_every_character_is_legible_in_light_and_in_dark(browser, name):
    scheme(browser, name)
    style = 'return getComputedStyle(document.body).'
    text, page = (browser.execute_script(style + what) for what in ('color', 'backgroundColor'))
    assert (luminance(numbers(page)[0]) > 0.5) == (name == 'light')
    for key in '123':
        press(browser, key)
        assert min(contrast(text, colour, page) for colour in colours(browser)) >= 4.5
    # No unit of this model may be at an end of the scale.
    for limit in 'up', 'down':
        strongest = browser.execute_script(
            'return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])',
            f'--{limit}',
        )
        assert contrast(text, strongest, page) >= 4.5
    PICTURES.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(PICTURES / f'{name}.png'))
    assert (PICTURES / f'{name}.png').stat().st_size > 10_000
