"""The page that tools.page writes, in headless Chromium: `make browser`.

The tests leave screenshots in temp/browser.
"""

import json
import re
import shutil
import sys

from backstage.settings import read_settings
from tools import page as page_tool
from tools import trained

import numpy as np
import pytest
from conftest import ROOT, SMALL, end, run_script, script, start
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

# 16 units learn little from a few lines, so tools.page might name none of them. The tests of the
# buttons need some named units: this program also names those that follow a feature weakly.
NAME_THE_WEAK = """import sys
from backstage import running
from tools import page
page.NAMED, page.LEARNED = 0.3, -1
sys.exit(running.run(page.main, sys.argv[1:]))
"""
PICTURES = ROOT / 'temp' / 'browser'
LINE = (
    'FIRST LORD:\nTo be, "or not" (so they say) to be, that is </script> the <!-- question & more.'
    '\n\n'
)


def make_page(folder, text, training, tool=('-m', 'tools.page'), *arguments):
    """Train a model on a text; return the URL of its page."""
    (folder / 'lines.txt').write_text(text, encoding='utf-8')
    for run in (
        run_script(*SMALL, '--text_file=lines.txt', *training, cwd=folder),
        end(start(sys.executable, *tool, '--text_file=lines.txt', *arguments, cwd=folder)),
    ):
        assert run[::2] == (0, ''), run
    return (folder / 'temp' / 'page.html').as_uri()


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """The URL of the page of a small model. Its text has quotes, tags and punctuation."""
    folder = tmp_path_factory.mktemp('browser')
    tool = folder / 'page.py'
    tool.write_text(NAME_THE_WEAK, encoding='utf-8')
    training = '--clean_text=False', '--epochs=60', '--save_every=200'
    return make_page(folder, LINE * 60, training, (str(tool),), '--characters=2000')


@pytest.fixture(scope='module')
def started():
    options = Options()
    options.binary_location = shutil.which('chromium')
    for argument in '--headless=new', '--no-sandbox', '--window-size=1240,820':
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    # Name the driver; otherwise Selenium downloads one.
    browser = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
    yield browser
    browser.quit()


@pytest.fixture
def browser(started, page):
    """The browser, with the page freshly loaded."""
    for log in 'browser', 'performance':
        started.get_log(log)
    scheme(started, 'light')
    started.get('about:blank')
    started.get(page)
    yield started
    assert started.get_log('browser') == []  # neither errors nor warnings


def scheme(browser, name):
    features = [{'name': 'prefers-color-scheme', 'value': name}]
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})


def press(browser, *keys):
    browser.switch_to.active_element.send_keys(*keys)


def find(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def colours(browser):
    """Return the computed background colour of each character on the page."""
    script = 'return text.spans.map(span => getComputedStyle(span).backgroundColor)'
    return browser.execute_script(script)


def wait(browser, condition):
    """Wait until a JavaScript expression is true."""
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(f'return {condition}'))


def read(browser):
    """Show the held-out text, and wait until the model has read it."""
    find(browser, '#read-tab')[0].click()
    wait(browser, 'isRead(text)')


def type_in(browser, selector, words):
    (box,) = find(browser, selector)
    box.clear()
    box.send_keys(words)


def write(browser, characters):
    """Let the model write until the text has this many characters; return them."""
    find(browser, '#write')[0].click()
    wait(browser, f'text.symbols.length >= {characters}')
    find(browser, '#write')[0].click()
    assert not browser.execute_script('return writing')
    return browser.execute_script('return text.symbols.join("")')[:characters]


def set_temperature(browser, temperature):
    browser.execute_script(
        'temperature.value = arguments[0]; temperature.dispatchEvent(new Event("input"))',
        temperature,
    )
    assert find(browser, '#degree')[0].text == f'{temperature:.2f}'


def unit(browser):
    """Return (layer, unit), the selected ones, both counted from 1."""
    (tab,) = find(browser, '#layers [role=tab][aria-selected=true]')
    number = re.match(r'Unit (\d+) of 16', find(browser, '#unit')[0].text).group(1)
    assert find(browser, '#slider')[0].get_attribute('value') == number
    address = f'#{tab.text[-1]}.{number}'
    WebDriverWait(browser, 10).until(lambda _: browser.current_url.endswith(address))
    return int(tab.text[-1]), int(number)


def test_the_page_shows_the_text_and_requests_nothing(browser):
    read(browser)
    shown = browser.execute_script('return document.getElementById("held-out").textContent')
    assert shown == (LINE * 60)[:2000]
    assert len(set(colours(browser))) > 10
    write_tab, _ = find(browser, '#modes [role=tab]')
    write_tab.click()
    write(browser, 100)
    log = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    sent = [
        e['params']['request']['url'] for e in log if e['method'] == 'Network.requestWillBeSent'
    ]
    assert {url.split(':')[0] for url in sent} <= {'file', 'data', 'about'}
    assert sum(url.startswith('file') for url in sent) == 1


def test_keys_tabs_slider_and_url_select_the_unit(browser, page):
    read(browser)
    press(browser, '1')
    (_, number), before = unit(browser), colours(browser)
    press(browser, Keys.ARROW_RIGHT)
    assert unit(browser) == (1, number % 16 + 1)
    assert colours(browser) != before
    press(browser, Keys.ARROW_LEFT)
    assert unit(browser) == (1, number)
    assert colours(browser) == before
    find(browser, '#layers [role=tab]')[1].click()
    assert unit(browser) == (2, number)
    assert colours(browser) != before
    browser.execute_script('slider.value = 5; slider.dispatchEvent(new Event("input"))')
    assert unit(browser) == (2, 5)
    browser.execute_script(  # a key held down
        'for (let i = 0; i < 403; i++) document.body'
        '.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}))'
    )
    assert unit(browser) == (2, (5 + 402) % 16 + 1)  # and the browser logs nothing
    browser.get(f'{page}#2.7')
    assert unit(browser) == (2, 7)


def test_buttons_and_keys_select_the_named_units(browser):
    buttons = find(browser, '#named button')
    assert len(buttons) > 1
    first, second = (tuple(map(int, b.text.split()[0].split('.'))) for b in buttons[:2])
    assert unit(browser) == first  # the page begins with it
    press(browser, 'n')
    assert unit(browser) == second
    assert buttons[1].get_attribute('aria-pressed') == 'true'
    press(browser, 'p')
    assert unit(browser) == first
    buttons[1].click()
    assert unit(browser) == second


def test_hovering_shows_the_five_likeliest_next_characters(browser):
    read(browser)
    place = LINE.index('question') + 2
    characters = find(browser, '#held-out > span')
    webdriver.ActionChains(browser).move_to_element(characters[place]).perform()
    rows = [row.text.split('\n') for row in find(browser, '#following li')]
    percents = [float(row[1].split()[0]) for row in rows]
    assert len(rows) == 5 and percents == sorted(percents, reverse=True)
    assert rows[0][0] == 's'  # overfit
    assert [row.text[0] for row in find(browser, '#following .came')] == ['s']
    assert 'que' in find(browser, '#after')[0].text
    press(browser, Keys.SHIFT, Keys.ARROW_RIGHT)
    assert 'ques' in find(browser, '#after')[0].text
    # The page repeats the probability that it listed for this s one character earlier.
    assert find(browser, '#came')[0].text == f'It gave this s a probability of {rows[0][1]}.'


def test_the_prompt_and_the_seed_determine_the_text(browser):
    set_temperature(browser, 1.5)  # the model is overfit
    written = {}
    for prompt, seed in ('to be', 1), ('so they say', 1), ('to be', 2), ('to be', 1):
        type_in(browser, '#prompt', prompt)
        type_in(browser, '#seed', str(seed))
        text = write(browser, 80)
        assert text.startswith(prompt)
        assert written.setdefault((prompt, seed), text) == text
        find(browser, '#back')[0].click()
        assert browser.execute_script('return text.symbols.join("")') == prompt
    endings = {text[-50:] for text in written.values()}
    assert len(endings) == 3


def test_stopping_and_resuming_does_not_change_the_text(browser):
    set_temperature(browser, 1.5)
    type_in(browser, '#prompt', 'to be')
    whole = write(browser, 90)
    find(browser, '#back')[0].click()
    for length in 30, 60, 90:
        assert write(browser, length) == whole[:length]


@pytest.mark.parametrize('top_k, temperature', [(0, 0), (1, 1.5)])
def test_temperature_0_and_top_1_draw_the_likeliest_character(browser, top_k, temperature):
    type_in(browser, '#top', str(top_k))
    set_temperature(browser, temperature)
    write(browser, 60)
    likeliest = 'text.outputs.map(o => { const l = logitsOf(o); return l.indexOf(Math.max(...l)) })'
    ids, symbols = browser.execute_script(f'return [{likeliest}, text.symbols]')
    vocabulary = browser.execute_script('return vocabulary')
    begin = len('thou art more')
    assert [vocabulary[ix] for ix in ids[begin - 1 : -1]] == symbols[begin:]


def test_draws_follow_the_probabilities_and_never_pick_unknown(browser):
    logits = [9, 1, 0, -1, 2, 0.5]  # 0 is never drawn
    draws = (
        'const counts = Array(6).fill(0); for (let i = 0; i < 40000; i++)'
        ' counts[draw(Float32Array.from(arguments[0]), arguments[1], arguments[2],'
        ' chanceOf(i, 1, "a prompt"))]++; return counts'
    )
    for temperature, top_k, kept in [(1, 0, 5), (0.7, 0, 5), (1, 2, 2), (0.5, 3, 3), (1, 9, 5)]:
        powers = np.exp(np.array(logits) / temperature)
        powers[0] = 0
        powers[np.argsort(powers)[: 6 - kept]] = 0
        expected = 40000 * powers / powers.sum()
        found = np.array(browser.execute_script(draws, logits, temperature, top_k))
        assert found.sum() == 40000 and not found[expected == 0].any()
        some = expected > 0
        squares = (found[some] - expected[some]) ** 2 / expected[some]
        assert squares.sum() < 25  # chi-squared, up to 4 degrees of freedom: p = 1/20,000


def test_clicking_a_written_character_shows_the_predictions_there(browser):
    text = write(browser, 60)
    find(browser, '#typed > span')[40].click()
    assert text[30:41].replace(' ', '␣').replace('\n', '↵') in find(browser, '#after')[0].text
    came = [row.text.split('\n')[0] for row in find(browser, '#following .came')]
    assert came in ([], [text[41].replace(' ', '␣').replace('\n', '↵')])


def test_the_page_works_without_a_mouse(browser):
    press(browser, Keys.TAB, Keys.TAB)
    names = []
    for _ in range(12):
        press(browser, Keys.TAB)
        names.append(browser.execute_script('return document.activeElement.id'))
        if names[-1] == 'prompt':
            press(browser, Keys.CONTROL, 'a')
            browser.switch_to.active_element.send_keys(
                'n 1 '
            )  # the page's shortcuts are off in here
        if names[-1] == 'write':
            press(browser, Keys.ENTER)
            wait(browser, 'text.symbols.length > 20')
            press(browser, Keys.ENTER)
            wait(browser, '!writing')
    assert names.index('prompt') < names.index('write') < names.index('copy') < names.index('seed')
    assert browser.execute_script('return text.symbols.join("").slice(0, 4)') == 'n 1 '
    assert find(browser, '#status')[0].text.endswith('characters written.')


def test_an_empty_prompt_and_unknown_characters_get_a_message(browser):
    (prompt,) = find(browser, '#prompt')
    prompt.clear()
    prompt.send_keys(Keys.SPACE, Keys.BACKSPACE)
    find(browser, '#write')[0].click()
    assert find(browser, '#status')[0].text.startswith('Type at least one character.')
    prompt.send_keys('é to Ω')
    assert find(browser, '#status')[0].text == 'Unknown to the model: é Ω'


def test_every_control_has_a_name_for_screen_readers(browser):
    read(browser)
    nodes = browser.execute_cdp_cmd('Accessibility.getFullAXTree', {})['nodes']
    roles = {'button', 'tab', 'slider', 'textbox', 'spinbutton', 'tabpanel'}
    usable = [
        (node['role']['value'], node.get('name', {}).get('value', '').strip())
        for node in nodes
        if node.get('role', {}).get('value') in roles
    ]
    assert {role for role, _ in usable} >= {'button', 'tab', 'slider', 'tabpanel'}
    assert all(name for _, name in usable), usable


def test_the_page_fits_a_phone(browser):
    size = {'width': 360, 'height': 740, 'deviceScaleFactor': 2, 'mobile': True}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
    write(browser, 200)
    widths = browser.execute_script('return [document.documentElement.scrollWidth, innerWidth]')
    save(browser, 'phone')
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    assert widths[0] <= widths[1] == 360


# --- The page's model against TensorFlow's -------------------------------------------------------

KINDS = 'Ab é\t"\'</script> <!-- 中文字 🙂🙃 שלום مرحبا \u2028 é ~\n'
RAW = '--clean_text=False', '--min_word_freq=1'
SHAPES = {
    'one unit': ('--rnn_size=1', *RAW),
    'one layer': ('--num_layers=1', *RAW),
    'eight layers': ('--num_layers=8', *RAW),
    'no residual': ('--residual=False', *RAW),
    '512 units': ('--rnn_size=512', '--num_layers=2', *RAW),
    'clean': (),
}


@pytest.mark.parametrize('name', SHAPES)
def test_probabilities_match_tensorflow(started, tmp_path, name):
    training = ('--max_iterations=30', '--sample_length=1', *SHAPES[name])
    more = '--characters=1000', '--full_precision'
    address = make_page(tmp_path, KINDS * 60, training, ('-m', 'tools.page'), *more)
    started.get(address)
    started.get_log('browser')
    read(started)
    found = np.array(
        started.execute_script('return text.outputs.map(o => [...softmax(logitsOf(o))])')
    )
    shown = started.execute_script('return text.symbols.join("")')
    settings = read_settings(vars(page_tool), [f'--temp_dir={tmp_path / "temp"}'])
    with trained.opened(settings) as (session, sampler, ix2vocab, run, _):
        ids = script.encode(shown, ix2vocab, run.clean_text)
        feed = {sampler.x_data: ids, sampler.initial_state: sampler.zero_state(1)}
        expected = session.run(sampler.probabilities, feed)[0]
    assert len(found) == len(shown) > 900
    assert not expected[:, 1:].std(axis=1).max() < 1e-3  # it has learned something
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    # Typed text is encoded like a prime text.
    for typed in KINDS, 'Déjà-vu — “NO”', 'e\u0301':
        ids = started.execute_script(
            'return [...prepared(arguments[0])].map(symbol => idOf.get(symbol) || 0)', typed
        )
        assert ids == script.encode(typed, ix2vocab, run.clean_text)[0].tolist(), typed
    assert started.get_log('browser') == []


def save(browser, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(PICTURES / f'{name}.png'))
    assert (PICTURES / f'{name}.png').stat().st_size > 10_000


def luminance(colour):
    """Return the relative luminance (WCAG 2) of a colour: three numbers from 0 to 255."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def numbers(colour):
    """Return ([red, green, blue], alpha) of a CSS colour."""
    red, green, blue, *alpha = map(float, re.findall(r'[\d.]+', colour))
    return np.array([red, green, blue]), (alpha or [1])[0]


def contrast(text, background, page):
    """Return the contrast ratio of text on a translucent background over the page."""
    (over, alpha), (under, _) = numbers(background), numbers(page)
    mixed = alpha * over + (1 - alpha) * under
    low, high = sorted([luminance(numbers(text)[0]), luminance(mixed)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize('name', ['light', 'dark'])
def test_every_character_is_legible_in_light_and_dark_mode(browser, name):
    scheme(browser, name)
    style = 'return getComputedStyle(document.body).'
    text, page = (browser.execute_script(style + what) for what in ('color', 'backgroundColor'))
    assert (luminance(numbers(page)[0]) > 0.5) == (name == 'light')
    read(browser)
    for key in '123':
        press(browser, key)
        assert min(contrast(text, colour, page) for colour in colours(browser)) >= 4.5
    # Perhaps no unit of this model reaches an end of the scale, so check both ends directly.
    for limit in 'up', 'down':
        strongest = browser.execute_script(
            'return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])',
            f'--{limit}',
        )
        assert contrast(text, strongest, page) >= 4.5
    save(browser, name)
