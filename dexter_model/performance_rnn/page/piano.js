"use strict";
/* A piano of our own: strings synthesised once for every third key in four shades of loudness, then played as samples.

   A string's partials are sharp by its stiffness, weaker where the hammer strikes, and die away fast at first and
   slowly later; a soft hammer leaves the high ones out. */

const RATE = 32000; // of samples, Hz
const SHADES = [0.25, 0.5, 0.75, 1]; // loudness that each is for, and those below
const STEP = 3; // semitones between samples

class Piano {
  constructor(context) {
    this.context = context;
    this.samples = new Map();
    this.voices = new Map(); // pitch: those that sound, from the first
    this.out = context.createDynamicsCompressor();
    this.out.connect(context.destination);
    const room = context.createConvolver();
    room.buffer = roomOf(1.6, context.sampleRate);
    const wet = context.createGain();
    wet.gain.value = 0.25;
    this.dry = context.createGain();
    this.dry.gain.value = 0.5;
    this.dry.connect(this.out);
    this.dry.connect(room).connect(wet).connect(this.out);
  }

  now() {
    return this.context.currentTime;
  }

  /** Make samples of the middle of the keyboard while nobody waits for them. */
  warm(pitch = 36) {
    if (pitch > 90) return;
    for (let shade = 0; shade < SHADES.length; shade++) this.sample(pitch, shade);
    setTimeout(() => this.warm(pitch + STEP), 30);
  }

  noteOn(pitch, velocity, time) {
    const loudness = Math.min(1, velocity / 127);
    const shade = SHADES.findIndex((upTo) => loudness <= upTo);
    const key = STEP * Math.round(pitch / STEP);
    const source = this.context.createBufferSource();
    source.buffer = this.sample(key, shade);
    source.playbackRate.value = 2 ** ((pitch - key) / 12);
    const gain = this.context.createGain();
    gain.gain.value = loudness ** 1.7;
    source.connect(gain).connect(this.dry);
    source.start(Math.max(time, this.now()));
    const voice = { source, gain };
    this.voices.set(pitch, [...(this.voices.get(pitch) ?? []), voice]);
    source.onended = () => this.voices.set(pitch, this.voices.get(pitch).filter((each) => each !== voice));
  }

  /** The damper falls on the first note of a key that it has not fallen on yet; the highest keys have none. */
  noteOff(pitch, time) {
    const voice = (this.voices.get(pitch) ?? []).find((each) => !each.damped);
    if (voice) damp(voice, Math.max(time, this.now()), pitch > 88 ? 0.6 : 0.09);
  }

  silence() {
    for (const voices of this.voices.values()) for (const voice of voices) damp(voice, this.now(), 0.05);
  }

  sample(key, shade) {
    const name = key * SHADES.length + shade;
    if (!this.samples.has(name)) this.samples.set(name, struck(key, SHADES[shade]));
    return this.samples.get(name);
  }
}

function damp(voice, time, seconds) {
  voice.damped = true;
  voice.gain.gain.cancelScheduledValues(time);
  voice.gain.gain.setTargetAtTime(0, time, seconds);
  voice.source.stop(time + 8 * seconds);
}

/** The sound of a key struck so hard, at its highest 1. */
function struck(pitch, loudness) {
  const frequency = 440 * 2 ** ((pitch - 69) / 12);
  const seconds = Math.min(5, Math.max(0.8, 5 * 2 ** ((40 - pitch) / 20)));
  const buffer = new AudioBuffer({ length: Math.ceil(seconds * RATE), sampleRate: RATE });
  const sound = buffer.getChannelData(0);
  const stiffness = 4e-4 * 2 ** ((pitch - 60) / 9);
  const bright = 900 + 5200 * loudness ** 2; // Hz above which the hammer's felt swallows partials
  for (let k = 1; k <= 36; k++) {
    const partial = k * frequency * Math.sqrt((1 + stiffness * k * k) / (1 + stiffness));
    if (partial > Math.min(14000, RATE * 0.45)) break;
    const strike = Math.abs(Math.sin((Math.PI * k) / 8.3)) + 0.03;
    const level = (strike / k ** 0.7) * Math.exp(-partial / bright);
    const fall = (2.2 + partial / 1400) * (3 / seconds); // 1 / s
    addPartial(sound, partial, 0.75 * level, fall);
    addPartial(sound, partial * 1.0005, 0.3 * level, fall / 4);
  }
  addHammer(sound, pitch, loudness);
  return finished(buffer, sound);
}

/** A sine that dies away: each sample from the two before. */
function addPartial(sound, frequency, level, fall) {
  const angle = (2 * Math.PI * frequency) / RATE;
  const shrink = Math.exp(-fall / RATE);
  const a = 2 * shrink * Math.cos(angle), b = shrink * shrink;
  let before = 0, last = level * Math.sin(angle) * shrink;
  for (let i = 1; i < sound.length; i++) {
    sound[i] += last;
    const next = a * last - b * before;
    before = last;
    last = next;
  }
}

/** The knock of the hammer: 30 ms of dull noise, the same each time. */
function addHammer(sound, pitch, loudness) {
  const level = 0.05 + 0.12 * loudness;
  let seed = pitch + 1, dull = 0;
  for (let i = 0; i < 0.03 * RATE; i++) {
    seed = (seed * 48271) % 2147483647;
    dull += 0.2 * (seed / 1073741823.5 - 1 - dull);
    sound[i] += level * dull * Math.exp(-i / (0.006 * RATE));
  }
}

/** Highest 1, without a click at either end. */
function finished(buffer, sound) {
  let highest = 0;
  for (const value of sound) highest = Math.max(highest, Math.abs(value));
  const rise = 0.0015 * RATE, fade = 0.1 * RATE;
  for (let i = 0; i < sound.length; i++) {
    sound[i] *= (Math.min(1, i / rise) * Math.min(1, (sound.length - 1 - i) / fade)) / highest;
  }
  return buffer;
}

/** How a small hall answers: noise that dies away in both ears. */
function roomOf(seconds, rate) {
  const buffer = new AudioBuffer({ length: Math.ceil(seconds * rate), numberOfChannels: 2, sampleRate: rate });
  for (let channel = 0; channel < 2; channel++) {
    const sound = buffer.getChannelData(channel);
    let seed = 11 + channel, dull = 0;
    for (let i = 0; i < sound.length; i++) {
      seed = (seed * 48271) % 2147483647;
      dull += 0.35 * (seed / 1073741823.5 - 1 - dull);
      sound[i] = dull * Math.exp((-5 * i) / sound.length);
    }
  }
  return buffer;
}
