"use strict";
/* The page: settings and where they are shown and kept, and what plays. */

const DENSITIES = [1, 2, 4, 8, 16, 32, 64]; // notes a second; the class of each is its index and 1
const CLASSES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
const PRESETS = {
  "C major": [2, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1],
  "F major": [1, 0, 1, 0, 1, 2, 0, 1, 0, 1, 1, 0],
  "D minor": [1, 0, 2, 0, 1, 1, 0, 1, 0, 1, 1, 0],
  "Whole tone": [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
  Pentatonic: [0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0],
};
const MOST_WEIGHT = 8;

const byId = (id) => document.getElementById(id);
const told = JSON.parse(byId("told").textContent);
const network = new Network(told, numbersOf(byId("weights").textContent, told.precision));
byId("weights").remove();

const settings = {
  density: 3,
  weights: PRESETS["C major"],
  presets: [PRESETS["F major"], PRESETS["D minor"]],
  on: true,
  gain: 100,
};

/** What the network is steered by, as it was told in training. */
function controls({ density, weights, on }) {
  const values = [];
  if (told.density) values.push(0, ...DENSITIES.map((_, index) => Number(index === density))); // 0: of less than one
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (told.histogram) values.push(...weights.map((weight) => (sum ? weight / sum : 1 / 12)));
  if (!told.optional) return values;
  return on ? [0, ...values] : [1, ...values.map(() => 0)];
}

/* Settings in the URL's fragment: density|weights|preset 1|preset 2|on|gain */

function fragmentOf({ density, weights, presets, on, gain }) {
  return [density, weights, presets[0], presets[1], Number(on), gain].join("|");
}

/** What of a fragment makes sense. */
function settingsOf(fragment) {
  const [density, weights, first, second, on, gain] = decoded(fragment).split("|");
  const found = { presets: [listOf(first) ?? settings.presets[0], listOf(second) ?? settings.presets[1]] };
  if (whole(density, 6)) found.density = Number(density);
  if (listOf(weights)) found.weights = listOf(weights);
  if (whole(on, 1)) found.on = on === "1";
  if (whole(gain, 200)) found.gain = Number(gain);
  return found;
}

function decoded(fragment) {
  try {
    return decodeURIComponent(fragment);
  } catch {
    return "";
  }
}

const whole = (text, most) => /^\d+$/.test(text ?? "") && Number(text) <= most;

function listOf(text) {
  const values = (text ?? "").split(",");
  return values.length === 12 && values.every((value) => whole(value, MOST_WEIGHT)) ? values.map(Number) : null;
}

/* What is shown */

const bars = CLASSES.map((name, index) => {
  const label = document.createElement("label");
  const value = document.createElement("output");
  const bar = Object.assign(document.createElement("input"), { type: "range", min: 0, max: MOST_WEIGHT, step: 1 });
  bar.setAttribute("aria-label", name);
  bar.addEventListener("input", () => change({ weights: settings.weights.with(index, Number(bar.value)) }));
  const shown = Object.assign(document.createElement("span"), { textContent: name });
  if (BLACK.includes(index)) shown.className = "black";
  label.append(value, bar, shown);
  byId("histogram").append(label);
  return { bar, value };
});

const presetButtons = Object.entries(PRESETS).map(([name, weights]) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
  button.addEventListener("click", () => change({ weights }));
  byId("presets").append(button);
  return { button, weights };
});

let keeping = null;

function change(changed) {
  Object.assign(settings, changed);
  show();
  clearTimeout(keeping); // browsers let addresses change now and then, not at every move of a slider
  keeping = setTimeout(() => history.replaceState(null, "", `#${fragmentOf(settings)}`), 200);
}

function show() {
  byId("on").checked = settings.on;
  byId("steered").disabled = told.optional && !settings.on;
  byId("density").value = settings.density;
  byId("density-told").value = DENSITIES[settings.density];
  byId("gain").value = settings.gain;
  byId("gain-told").value = `${settings.gain} %`;
  bars.forEach(({ bar, value }, index) => {
    const weight = settings.weights[index];
    bar.value = value.value = weight;
    bar.style.setProperty("--fill", `${(100 * weight) / MOST_WEIGHT}%`);
  });
  const same = (weights) => weights.every((weight, index) => weight === settings.weights[index]);
  for (const { button, weights } of presetButtons) button.classList.toggle("chosen", same(weights));
  for (const button of document.querySelectorAll("[data-recall]")) {
    button.classList.toggle("chosen", same(settings.presets[button.dataset.recall]));
  }
}

/* What plays: this page's piano or an instrument, and the keyboard that shows it */

const keyboard = new Keyboard(byId("keyboard"));
let piano = null; // begun by a person's gesture, as browsers want it
let instrument = null;

const sound = {
  now: () => (piano ? piano.now() : 0),
  noteOn(pitch, velocity, time) {
    const louder = Math.min(127, (velocity * settings.gain) / 100);
    if (louder < 0.5) return;
    (instrument ?? piano).noteOn(pitch, louder, time);
    keyboard.noteOn(pitch, louder, time);
  },
  noteOff(pitch, time) {
    (instrument ?? piano).noteOff(pitch, time);
    keyboard.noteOff(pitch, time);
  },
  silence() {
    piano?.silence();
    instrument?.silence();
    keyboard.silence(this.now());
  },
};

const player = new Player(network, () => controls(settings), sound);

async function play() {
  if (player.playing) player.stop();
  else {
    if (!piano) {
      piano = new Piano(new AudioContext());
      piano.warm();
    }
    await piano.context.resume();
    player.start();
  }
  byId("play").textContent = player.playing ? "Stop" : "Play";
  byId("play").setAttribute("aria-pressed", player.playing);
}

function drawn() {
  keyboard.draw(sound.now());
  if (player.playing) {
    const speed = Math.round(player.events / player.seconds);
    byId("status").value = `${player.notes} notes · makes ${speed} events/s`;
  }
  requestAnimationFrame(drawn);
}

/* MIDI */

const listener = new Listener(
  (pitch, anew) => {
    if (anew) player.reset();
    const weights = anew ? CLASSES.map(() => 0) : [...settings.weights];
    weights[pitch % 12] = Math.min(MOST_WEIGHT, weights[pitch % 12] + 1);
    change({ weights, on: true });
  },
  () => change({ on: false }),
);

async function midi() {
  try {
    const access = await offerMidi(byId("midi-out"), byId("midi-in"));
    byId("midi-out").addEventListener("change", ({ target }) => {
      sound.silence();
      const output = access.outputs.get(target.value);
      instrument = output ? new Instrument(output, sound) : null;
    });
    byId("midi-in").addEventListener("change", ({ target }) => {
      listener.listen(access.inputs.get(target.value) ?? null);
    });
    byId("midi").hidden = false;
    byId("midi-on").hidden = true;
  } catch {
    byId("midi-told").hidden = false;
    byId("midi-told").textContent = "This browser lets the page have no MIDI instruments.";
  }
}

/* At the beginning */

for (const [id, shown] of Object.entries({
  steering: told.density || told.histogram,
  conditioning: told.optional,
  "density-part": told.density,
  "histogram-part": told.histogram,
  midi: false,
  "midi-in-label": told.histogram,
  "midi-in": told.histogram,
  "midi-told": told.histogram,
})) byId(id).hidden = !shown;
byId("model").textContent = `Model: ${told.label}.`;
byId("facts").textContent =
  `${told.id}, ${told.parameters.toLocaleString("en")} weights, ${told.step.toLocaleString("en")} steps of training. ` +
  "Everything runs on this page; settings are in its address.";
byId("play").addEventListener("click", play);
byId("reset").addEventListener("click", () => player.reset());
byId("midi-on").addEventListener("click", midi);
byId("on").addEventListener("change", ({ target }) => change({ on: target.checked }));
byId("density").addEventListener("input", ({ target }) => change({ density: Number(target.value) }));
byId("gain").addEventListener("input", ({ target }) => change({ gain: Number(target.value) }));
byId("own").addEventListener("click", ({ target: { dataset } }) => {
  if (dataset.recall) change({ weights: settings.presets[dataset.recall] });
  if (dataset.save) change({ presets: settings.presets.with(dataset.save, settings.weights) });
});
addEventListener("hashchange", () => change(settingsOf(location.hash.slice(1))));
change(settingsOf(location.hash.slice(1)));
requestAnimationFrame(drawn);

/** For tests and for the curious: logits (events, classes) of the events that follow, from the beginning. */
function logits(events, steering) {
  const one = new Network(told, network.numbers);
  return events.map((event, index) => Array.from(one.step(event, steering[index] ?? [])));
}

/** The sound of a chord, rendered without loudspeakers: its root mean square. */
async function level(velocity = 100) {
  const offline = new OfflineAudioContext(2, 2 * 44100, 44100);
  const silent = new Piano(offline);
  for (const pitch of [48, 60, 64, 67]) silent.noteOn(pitch, velocity, 0);
  const left = (await offline.startRendering()).getChannelData(0);
  return Math.sqrt(left.reduce((sum, value) => sum + value * value, 0) / left.length);
}

window.performanceRnn = { told, settings, controls, player, logits, level };
