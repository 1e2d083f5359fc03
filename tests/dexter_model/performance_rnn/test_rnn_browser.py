"""The page that plays: in headless Chromium it computes what our network does, sounds, and does as it is told."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dexter_model.errors import InputError
from dexter_model.performance_rnn.browser import export_page
from dexter_model.performance_rnn.config import NetworkConfig, PerformanceRnnConfig
from dexter_model.performance_rnn.network import PerformanceRnn, initial_network
from dexter_model.training.checkpoint import Checkpoint

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EVENTS = [355, 380, 60, 64, 276, 188, 370, 67, 355, 192, 195, 256]
STEERED = NetworkConfig(
    name="optional_multiconditioned_performance_with_dynamics",
    density=True,
    histogram=True,
    optional=True,
    layers=(24, 30),
)
KINDS = {
    "steered": STEERED,
    "dynamics": NetworkConfig(layers=(20, 20, 20)),
    "without velocities": NetworkConfig(name="performance", velocity_bins=0, layers=(16,)),
    "modulo": NetworkConfig(encoding="modulo", layers=(16, 9)),
    "density": NetworkConfig(density=True, layers=(16,)),
}
SHOWN = {kind: (each.controls > 0, each.optional, each.density, each.histogram) for kind, each in KINDS.items()}


def a_checkpoint(network: PerformanceRnn, label: str = "made up") -> Checkpoint:
    config = PerformanceRnnConfig(network.config).to_dict()
    state = {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}
    return Checkpoint(Path("made-up"), config, {"mean": [], "std": []}, state, {"label": label, "step": 7}, "digest")


def lively(config: NetworkConfig, seed: int = 1) -> PerformanceRnn:
    """An untrained network whose logits differ by more than a little."""
    network = initial_network(config, seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4.0).add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return network.eval()


def obedient() -> PerformanceRnn:
    """A network without memory: the denser it is told to play, the likelier keys go down and the shorter time passes.

    Its one cell opens its gates and shows the class of density, -1 to 1; steered off it plays nothing.
    """
    network = initial_network(
        NetworkConfig(name="made up", density=True, histogram=True, optional=True, layers=(1,)), 0
    )
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        layer, head = network.layers[0], network.head
        layer.bias.copy_(torch.tensor([9.0, 0.0, -10.0, 9.0]))
        layer.kernel[1:9, 1] = torch.linspace(-3, 3, 8)
        head.weights[0, :128] = 3.0
        head.weights[0, 300:356] = -6.0
        head.biases[128:256] = -2.0
    return network.eval()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.fail("the mark is to leave these tests out where there is no Chromium")
    from playwright.sync_api import sync_playwright

    quiet = ("background-networking", "component-update", "sync")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", *(f"--disable-{what}" for what in quiet)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class Opened:
    """A page in a browser, and everything it complained about or asked for."""

    def __init__(self, browser: Any, file: Path, fragment: str = "", script: str = "") -> None:
        self.page = browser.new_page(viewport={"width": 1200, "height": 900})
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        if script:
            self.page.add_init_script(script)
        self.page.goto(file.resolve().as_uri() + fragment)

    def __call__(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def until(self, condition: str) -> None:
        for _ in range(300):  # the page lets nobody evaluate texts, as Playwright's own waiting would
            if self(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{condition} never came true")

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def obeys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "page.html"
    export_page(a_checkpoint(obedient()), file)
    return file


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_computes_what_the_network_does(kind: str, chromium: Any, tmp_path: Path) -> None:
    network = lively(KINDS[kind])
    export_page(a_checkpoint(network), tmp_path / "page.html", precision="float32")
    events = [event for event in EVENTS if event < 356 or KINDS[kind].velocity_bins]
    generator = torch.Generator().manual_seed(2)
    controls = torch.rand(len(events), KINDS[kind].controls, generator=generator)
    expected = network(torch.tensor(events)[None, :, None], controls[None])[0].detach().numpy()
    assert np.ptp(expected) > 1.0
    with Opened(chromium, tmp_path / "page.html") as page:
        found = page("([e, c]) => performanceRnn.logits(e, c)", [events, controls.tolist()])
        parts = ["steering", "conditioning", "density-part", "histogram-part"]
        shown = [part for part in parts if page.page.locator(f"#{part}").is_visible()]
        assert page("controls(settings).length") == KINDS[kind].controls
    assert shown == [part for part, is_there in zip(parts, SHOWN[kind], strict=True) if is_there]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@needs_chromium
@pytest.mark.browser
def test_weights_of_half_precision_are_read_as_they_were_rounded(chromium: Any, obeys: Path) -> None:
    values = np.array([0.0, -0.0, 1.0, -1.5, 65504.0, 2.0**-24, 6.1e-5, 0.33325195, -(2.0**-14)], np.float16)
    with Opened(chromium, obeys) as page:
        told = base64.b64encode(values.tobytes()).decode()
        found = page("text => Array.from(numbersOf(text, 'float16'))", told)
    assert found == values.astype(np.float64).tolist()


@needs_chromium
@pytest.mark.browser
def test_what_it_is_told_reaches_the_network(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys) as page:
        controls = "settings => performanceRnn.controls(settings)"
        c_major = [2, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1]
        steered = page(controls, {"density": 2, "weights": c_major, "on": True})
        assert steered == pytest.approx([0, 0, 0, 0, 1, 0, 0, 0, 0, *(weight / 8 for weight in c_major)])
        assert page(controls, {"density": 2, "weights": c_major, "on": False}) == [1] + [0] * 20
        assert page(controls, {"density": 0, "weights": [0] * 12, "on": True})[9:] == pytest.approx([1 / 12] * 12)


@needs_chromium
@pytest.mark.browser
def test_it_plays_and_stops(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys) as page:
        page.page.click("#play")
        page.until("performanceRnn.player.notes > 20")
        before = page("performanceRnn.player.notes")
        page.until(f"performanceRnn.player.notes > {before}")
        page.page.click("#play")
        assert page("performanceRnn.player.playing") is False
        assert page.page.inner_text("#play") == "Play"
        assert page("performanceRnn.level(110)") > 1.5 * page("performanceRnn.level(20)") > 1e-4


@needs_chromium
@pytest.mark.browser
def test_the_piano_is_in_tune_and_bright_when_it_is_loud(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys) as page:
        for pitch in (33, 69, 84):
            soft, loud = (np.array(page(f"Array.from(struck({pitch}, {how}).getChannelData(0))")) for how in (0.25, 1))
            assert np.abs(soft).max() == pytest.approx(1.0, abs=1e-6)
            assert soft[0] == loud[0] == soft[-1] == 0.0
            spectra = [np.abs(np.fft.rfft(sound, 1 << 19)) for sound in (soft, loud)]
            hertz = np.fft.rfftfreq(1 << 19, 1 / 32000)
            wanted = 440 * 2 ** ((pitch - 69) / 12)
            near = (hertz > 0.8 * wanted) & (hertz < 1.2 * wanted)
            for spectrum in spectra:
                assert hertz[near][spectrum[near].argmax()] == pytest.approx(wanted, rel=0.001)
            centres = [(hertz * spectrum**2).sum() / (spectrum**2).sum() for spectrum in spectra]
            assert centres[1] > 1.1 * centres[0]


@needs_chromium
@pytest.mark.browser
def test_a_higher_density_is_more_notes_a_second(chromium: Any, obeys: Path) -> None:
    played = """density => {
        const heard = { now: () => 0, noteOn() {}, noteOff() {}, silence() {} };
        let seed = 1;
        const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
        byId("density").value = density;
        byId("density").dispatchEvent(new Event("input"));
        const player = new Player(network, () => controls(settings), heard, random);
        player.begin();
        while (player.time < 60) player.advance();
        return player.notes / player.time;
    }"""
    with Opened(chromium, obeys) as page:
        rates = [page(played, density) for density in range(7)]
    assert all(low < high for low, high in itertools.pairwise(rates))
    assert rates[-1] > 4 * rates[0]


@needs_chromium
@pytest.mark.browser
def test_rules_that_keep_endless_music_tolerable(chromium: Any, obeys: Path) -> None:
    """An end without a beginning, one too early, a velocity, a note that does not end, half a minute."""
    with Opened(chromium, obeys) as page:
        heard = page("""() => {
            const heard = [];
            const sound = { now: () => 100, silence() {},
                noteOn: (...told) => heard.push(["on", ...told]), noteOff: (...told) => heard.push(["off", ...told]) };
            const player = new Player(network, () => [], sound);
            player.begin();
            for (const event of [128 + 50, 356 + 15, 60, 256 + 9, 128 + 60, 62, ...Array(4).fill(355)]) {
                player.play(event);
            }
            const resets = player.resets;
            for (let i = 0; i < 28; i++) player.play(355);
            return { heard, resets: player.resets - resets, sounding: player.sounding.size };
        }""")
    told = [["on", 60, 64, 100], ["off", 60, 100.5], ["on", 62, 64, 100.1], ["off", 62, 104.1]]
    assert [row[:2] for row in heard["heard"]] == [row[:2] for row in told]
    assert [row[2:] for row in heard["heard"]] == [pytest.approx(row[2:]) for row in told]
    assert heard["resets"] == 1
    assert heard["sounding"] == 0


@needs_chromium
@pytest.mark.browser
def test_it_jumps_over_lost_time(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys) as page:
        late = page("""() => {
            let now = 0;
            const heard = { now: () => now, noteOn() {}, noteOff() {}, silence() {} };
            const player = new Player(network, () => controls(settings), heard);
            player.begin();
            now = 1000;
            player.call();
            player.stop();
            return [player.jumps, player.time];
        }""")
    assert late == [1, 1000]


@needs_chromium
@pytest.mark.browser
def test_settings_are_in_the_address_and_come_back(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys) as page:
        page.page.locator("#density").fill("5")
        page.page.get_by_text("Whole tone").click()
        page.page.locator("[data-save='1']").click()
        page.page.get_by_text("D minor").click()
        page.page.locator("#gain").fill("150")
        page.page.locator("#conditioning").click()
        page.until("location.hash.endsWith('|0|150')")
        fragment = page("location.hash")
        settings = page("performanceRnn.settings")
    whole_tone, d_minor, f_major = "1,0,1,0,1,0,1,0,1,0,1,0", "1,0,2,0,1,1,0,1,0,1,1,0", "1,0,1,0,1,2,0,1,0,1,1,0"
    assert fragment == f"#5|{d_minor}|{f_major}|{whole_tone}|0|150"
    with Opened(chromium, obeys, fragment) as page:
        assert page("performanceRnn.settings") == settings
        assert page("[byId('density').value, byId('gain').value, byId('on').checked]") == ["5", "150", False]
        assert page("byId('steered').disabled") is True
        page.page.locator("#conditioning").click()
        page.page.get_by_text("Mine 2").click()
        assert page("performanceRnn.settings.weights.join()") == whole_tone


@needs_chromium
@pytest.mark.browser
def test_an_address_of_nonsense_changes_nothing(chromium: Any, obeys: Path) -> None:
    nonsense = ["", "%", "99|1,2|<b>|x|2|-1", "3.5|" + ",".join(["11"] * 12), "|||||" * 40, "%7C%zz"]
    with Opened(chromium, obeys) as page:
        before = page("performanceRnn.settings")
        for fragment in nonsense:
            page("fragment => { location.hash = fragment; change(settingsOf(location.hash.slice(1))); }", fragment)
            assert page("performanceRnn.settings") == before


FAKE_MIDI = """
window.sent = [];
window.input = { id: "i", name: "A keyboard" };
const output = { id: "o", name: "A piano", send: (data, time) => sent.push([data, time]) };
navigator.requestMIDIAccess = async () => ({ inputs: new Map([["i", input]]), outputs: new Map([["o", output]]) });
"""


@needs_chromium
@pytest.mark.browser
def test_midi_instruments_play_and_steer(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys, "#3|1,1,1,1,1,1,1,1,1,1,1,1|||0", FAKE_MIDI) as page:
        page.page.click("#midi-on")
        page.page.locator("#midi-in").select_option("A keyboard")
        page.page.locator("#midi-out").select_option("A piano")
        resets = page("performanceRnn.player.resets")
        page("""() => {
            const played = (data, timeStamp) => input.onmidimessage({ data, timeStamp });
            played([0x90, 60, 80], 5000);
            played([0x80, 60, 0], 5100);
            played([0x91, 64, 80], 5500);
            played([0x90, 60, 0], 5600);
            played([0x90, 72, 80], 6400);
        }""")
        assert page("performanceRnn.settings.weights") == [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
        assert page("performanceRnn.settings.on") is True
        assert page("performanceRnn.player.resets") == resets + 1
        page("input.onmidimessage({ data: [0x90, 62, 80], timeStamp: 7500 })")
        assert page("performanceRnn.settings.weights.join()") == "0,0,1,0,0,0,0,0,0,0,0,0"
        page.page.click("#play")
        page.until("sent.length > 20")
        page.page.click("#play")
        sent = page("sent")
    on = [data for data, _ in sent if data[0] == 0x90]
    off = {data[1] for data, _ in sent if data[0] == 0x80}
    assert on
    assert all(0 <= pitch <= 127 and 1 <= velocity <= 127 for _, pitch, velocity in on)
    assert {pitch for _, pitch, _ in on} <= off


@needs_chromium
@pytest.mark.browser
def test_a_key_struck_again_before_its_end_is_heard_to_its_own(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys) as page:
        sent = page("""async () => {
            const sent = [], began = performance.now();
            const output = { send: ([status, pitch], time) => sent.push([status, pitch, time - began]) };
            const played = new Instrument(output, { now: () => (performance.now() - began) / 1000 });
            played.noteOn(60, 64, 0.1);
            played.noteOff(60, 0.6);
            played.noteOn(60, 64, 0.3);
            played.noteOff(60, 0.8);
            await new Promise((resolve) => setTimeout(resolve, 1000));
            return sent;
        }""")
    assert [row[:2] for row in sent] == [[0x90, 60], [0x80, 60], [0x90, 60], [0x80, 60]]
    assert [row[2] for row in sent] == pytest.approx([100, 300, 300, 800], abs=20)


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("kind", ["steered", "dynamics", "density"])
def test_only_what_a_histogram_steers_listens_to_instruments(kind: str, chromium: Any, tmp_path: Path) -> None:
    export_page(a_checkpoint(lively(KINDS[kind])), tmp_path / "page.html")
    with Opened(chromium, tmp_path / "page.html", script=FAKE_MIDI) as page:
        told = page.page.locator("#midi-told").is_visible()
        page.page.click("#midi-on")
        assert page.page.locator("#midi-out").is_visible()
        assert page.page.locator("#midi-in").is_visible() is told is KINDS[kind].histogram


@needs_chromium
@pytest.mark.browser
def test_nobody_playing_for_half_a_minute_ends_the_steering(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys, script=FAKE_MIDI) as page:
        page.page.clock.install()
        page.page.click("#midi-on")
        page.page.locator("#midi-in").select_option("A keyboard")
        page("input.onmidimessage({ data: [0x90, 62, 80], timeStamp: 0 })")
        page.page.clock.fast_forward(29_000)
        assert page("performanceRnn.settings.on") is True
        page.page.clock.fast_forward(1_500)
        assert page("performanceRnn.settings.on") is False


@needs_chromium
@pytest.mark.browser
def test_it_fits_every_screen(chromium: Any, obeys: Path) -> None:
    with Opened(chromium, obeys) as page:
        for width in (320, 390, 768, 1400):
            page.page.set_viewport_size({"width": width, "height": 800})
            assert page("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_same_model_gives_the_same_page_of_weights_and_words(tmp_path: Path) -> None:
    label = '</script><script>alert("/* weights */")</script>'
    for name in ("a.html", "b.html"):
        export_page(a_checkpoint(lively(STEERED), label), tmp_path / name)
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert page.count("<script") == page.count("</script>") == 3
    told = json.loads(re.findall(r'id="told">(.*?)</script>', page)[0])
    assert told["label"] == label
    weights = re.findall(r'id="weights">(.*?)</script>', page)[0]
    assert len(base64.b64decode(weights)) == 2 * (told["parameters"])
    assert not re.search(r"https?:", page)


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(encoding="notes", layers=(8,)),
        NetworkConfig(attention=4, layers=(8,)),
        NetworkConfig(residual=True, layers=(8,)),
    ],
)
def test_what_the_page_cannot_play_is_refused(config: NetworkConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        export_page(a_checkpoint(initial_network(config, 0)), tmp_path / "page.html")
    assert refused.value.code == "page_impossible"
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    network = initial_network(NetworkConfig(layers=(8,)), 0)
    with torch.no_grad():
        network.head.biases[3] = 1e5
    export_page(a_checkpoint(network), tmp_path / "page.html", precision="float32")
    with pytest.raises(InputError, match="float16"):
        export_page(a_checkpoint(network), tmp_path / "half.html")
