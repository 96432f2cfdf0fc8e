"""Measure the page of tools.page in Chromium: its size, its speed, and the cost of 16 bits.

    python benchmarks/page.py temp/demo    writes measurements/page.md and docs/page.png: a minute

This needs Chromium and its driver, like `make browser`.
"""

import argparse
import pathlib
import shutil
import statistics
import sys

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait
from shared import DOCS, ROOT, as_table, run, script, write_page

# isort: split
# Only now can Python find it.
from tools import trained

import numpy as np

PLACES = 1000  # at which probabilities are compared
WRITTEN = 500  # characters in the picture
OPENED = 'const [e] = performance.getEntriesByType("navigation"); return e.loadEventEnd'  # ms
SPEED = """const ids = [...content.text].map(symbol => idOf.get(symbol) || 0);
    const state = zeroState(), begin = performance.now();
    ids.forEach(id => softmax(logitsOf(step(id, state))));
    return 1000 * ids.length / (performance.now() - begin);"""
LOSSES = """const ids = [...content.text].map(symbol => idOf.get(symbol) || 0), state = zeroState();
    const rows = ids.map(id => softmax(logitsOf(step(id, state))));
    return [rows.slice(0, arguments[0]).map(row => [...row]),
            rows.slice(0, -1).map((row, place) => -Math.log(row[ids[place + 1]]))];"""
TEXT = """The page holds {weights:,} weights, in {layers} layers of {units} units. Its text has
{characters:,} characters. "Opens in" is the time until the browser's load event. Speed is the
median of five readings, of the model's function alone, with the probabilities of all characters.
The loss is in nats. The differences compare the probabilities of all {symbols} symbols at
{places:,} places with TensorFlow's.

{table}"""


def measure(browser, path):
    """Return (bytes, seconds to open, characters/s, probabilities, losses) of a page."""
    browser.get(path.resolve().as_uri())
    opened = browser.execute_script(OPENED) / 1000
    speed = statistics.median(browser.execute_script(SPEED) for _ in range(5))
    probabilities, losses = browser.execute_script(LOSSES, PLACES)
    return path.stat().st_size, opened, speed, np.array(probabilities), np.array(losses)


def take_picture(browser):
    """Let the page in the browser write, and save a picture of it."""
    browser.execute_script("$('write').click()")
    wait = WebDriverWait(browser, 60)
    wait.until(lambda _: browser.execute_script(f'return text.symbols.length >= {WRITTEN}'))
    browser.execute_script("$('write').click()")
    browser.save_screenshot(str(DOCS / 'page.png'))


def main(temp_dir):
    options = Options()
    options.binary_location = shutil.which('chromium')
    for argument in '--headless=new', '--no-sandbox', '--window-size=1240,900':
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
    path, found = pathlib.Path(temp_dir, 'page.html'), {}
    for name, more in ('32 bits', ['--full_precision']), ('16 bits', []):
        run(f'--temp_dir={temp_dir}', *more, program=['-m', 'tools.page'], cwd=ROOT)
        found[name] = measure(browser, path)
    text, weights = browser.execute_script('return [content.text, count]')
    take_picture(browser)
    browser.quit()
    settings = argparse.Namespace(temp_dir=temp_dir, checkpoint='', device='auto')
    with trained.opened(settings) as (session, sampler, ix2vocab, settings, _):
        ids = script.encode(text, ix2vocab, settings.clean_text)
        feed = {
            sampler.x_data: ids[:, :-1],
            sampler.y_output: ids[:, 1:],
            sampler.initial_state: sampler.zero_state(1),
        }
        expected, losses = (
            v[0] for v in session.run([sampler.probabilities, sampler.losses], feed)
        )
    table = [['TensorFlow', '', '', '', f'{losses.mean():.5f}', '', '']]
    for name, (size, opened, speed, probabilities, own_losses) in found.items():
        difference = np.abs(probabilities - expected[:PLACES])
        table.append([
            f'the page, weights of {name}', f'{size / 1e6:.2f} MB', f'{opened:.2f} s',
            f'{speed:,.0f}', f'{own_losses.mean():.5f}', f'{difference.mean():.1e}',
            f'{difference.max():.1e}',
        ])  # fmt: skip
    head = ['', 'size', 'opens in', 'characters/s', 'loss', 'mean difference', 'largest']
    sizes = {'weights': weights, 'layers': settings.num_layers, 'units': settings.rnn_size}
    sizes.update(characters=len(text), symbols=len(ix2vocab), places=PLACES)
    command = f'python benchmarks/page.py {temp_dir}'
    write_page(
        'page.md',
        'The page in a browser',
        command,
        TEXT.format(table=as_table(head, table), **sizes),
    )


if __name__ == '__main__':
    main(*sys.argv[1:])
