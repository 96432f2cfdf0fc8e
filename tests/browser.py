"""The page of tools.page in a real browser, Debian's Chromium without a window: `make browser`.

Pictures of the page are left in temp/browser, to be looked at.
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

# What 16 units learn from few lines is chance, so hardly a unit may have a name. The buttons of the
# page need some: here a weak one is named too.
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
    """Train a model on a text, and return the address of its page."""
    (folder / 'lines.txt').write_text(text, encoding='utf-8')
    for run in (
        run_script(*SMALL, '--text_file=lines.txt', *training, cwd=folder),
        end(start(sys.executable, *tool, '--text_file=lines.txt', *arguments, cwd=folder)),
    ):
        assert run[::2] == (0, ''), run
    return (folder / 'temp' / 'page.html').as_uri()


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """The address of the page of a small model that reads a text of all kinds."""
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
    """Return the background of each character that is shown, as it is computed."""
    script = 'return text.spans.map(span => getComputedStyle(span).backgroundColor)'
    return browser.execute_script(script)


def wait(browser, condition):
    """Wait until an expression of JavaScript is true."""
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(f'return {condition}'))


def read(browser):
    """Show the held-out text, and wait until it is read."""
    find(browser, '#read-tab')[0].click()
    wait(browser, 'isRead(text)')


def type_in(browser, selector, words):
    (box,) = find(browser, selector)
    box.clear()
    box.send_keys(words)


def write(browser, characters):
    """Let the model write until there are so many characters; return these."""
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
    """Return which layer and unit are shown, counted from 1."""
    (tab,) = find(browser, '#layers [role=tab][aria-selected=true]')
    number = re.match(r'Unit (\d+) of 16', find(browser, '#unit')[0].text).group(1)
    assert find(browser, '#slider')[0].get_attribute('value') == number
    address = f'#{tab.text[-1]}.{number}'
    WebDriverWait(browser, 10).until(lambda _: browser.current_url.endswith(address))
    return int(tab.text[-1]), int(number)


def test_it_shows_the_text_and_asks_nobody_for_anything(browser):
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


def test_keys_tabs_the_slider_and_the_address_change_the_unit_and_the_colours(browser, page):
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
    browser.execute_script(  # a key that is held
        'for (let i = 0; i < 403; i++) document.body'
        '.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}))'
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
    # What is told of this s is what stood in the list one character earlier.
    assert find(browser, '#came')[0].text == f'It gave this s a probability of {rows[0][1]}.'


def test_the_same_prompt_and_seed_write_the_same_text_and_others_another(browser):
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


def test_what_was_stopped_goes_on_as_if_it_had_not_been(browser):
    set_temperature(browser, 1.5)
    type_in(browser, '#prompt', 'to be')
    whole = write(browser, 90)
    find(browser, '#back')[0].click()
    for length in 30, 60, 90:
        assert write(browser, length) == whole[:length]


@pytest.mark.parametrize('top_k, temperature', [(0, 0), (1, 1.5)])
def test_the_likeliest_is_drawn_at_temperature_0_and_with_top_1(browser, top_k, temperature):
    type_in(browser, '#top', str(top_k))
    set_temperature(browser, temperature)
    write(browser, 60)
    likeliest = 'text.outputs.map(o => { const l = logitsOf(o); return l.indexOf(Math.max(...l)) })'
    ids, symbols = browser.execute_script(f'return [{likeliest}, text.symbols]')
    vocabulary = browser.execute_script('return vocabulary')
    begin = len('thou art more')
    assert [vocabulary[ix] for ix in ids[begin - 1 : -1]] == symbols[begin:]


def test_it_draws_as_often_as_the_probabilities_say_and_never_what_it_must_not(browser):
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
        assert squares.sum() < 25  # chi-squared with up to 4 degrees of freedom: 1 of 20,000


def test_a_click_on_what_is_written_shows_what_was_expected_there(browser):
    text = write(browser, 60)
    find(browser, '#typed > span')[40].click()
    assert text[30:41].replace(' ', '␣').replace('\n', '↵') in find(browser, '#after')[0].text
    came = [row.text.split('\n')[0] for row in find(browser, '#following .came')]
    assert came in ([], [text[41].replace(' ', '␣').replace('\n', '↵')])


def test_a_person_without_a_mouse_can_type_write_stop_and_look(browser):
    press(browser, Keys.TAB, Keys.TAB)
    names = []
    for _ in range(12):
        press(browser, Keys.TAB)
        names.append(browser.execute_script('return document.activeElement.id'))
        if names[-1] == 'prompt':
            press(browser, Keys.CONTROL, 'a')
            browser.switch_to.active_element.send_keys('n 1 ')  # no keys of the page, in here
        if names[-1] == 'write':
            press(browser, Keys.ENTER)
            wait(browser, 'text.symbols.length > 20')
            press(browser, Keys.ENTER)
            wait(browser, '!writing')
    assert names.index('prompt') < names.index('write') < names.index('copy') < names.index('seed')
    assert browser.execute_script('return text.symbols.join("").slice(0, 4)') == 'n 1 '
    assert find(browser, '#status')[0].text.endswith('characters written.')


def test_an_empty_prompt_and_unknown_characters_get_a_sentence(browser):
    (prompt,) = find(browser, '#prompt')
    prompt.clear()
    prompt.send_keys(Keys.SPACE, Keys.BACKSPACE)
    find(browser, '#write')[0].click()
    assert find(browser, '#status')[0].text.startswith('Type at least one character.')
    prompt.send_keys('é to Ω')
    assert find(browser, '#status')[0].text == 'Unknown to the model: é Ω'


def test_everything_that_can_be_used_has_a_name_for_a_screen_reader(browser):
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


def test_nothing_is_wider_than_a_phone(browser):
    size = {'width': 360, 'height': 740, 'deviceScaleFactor': 2, 'mobile': True}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
    write(browser, 200)
    widths = browser.execute_script('return [document.documentElement.scrollWidth, innerWidth]')
    save(browser, 'phone')
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    assert widths[0] <= widths[1] == 360


# --- The model of the page, beside TensorFlow's --------------------------------------------------

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
def test_its_probabilities_are_those_of_tensorflow(started, tmp_path, name):
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
    # What a person types is read as a prime text is.
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
    read(browser)
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
    save(browser, name)
