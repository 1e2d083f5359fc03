"use strict";
/* What sounds: keys that light up as they are struck, and above them the notes of the last seconds on their way up. */

const LOWEST = 21, HIGHEST = 108;
const LIT = 0.1; // s
const SEEN = 6; // s of notes above the keys
const BLACK = [1, 3, 6, 8, 10];
const WHITES = 52;

class Keyboard {
  constructor(canvas) {
    this.canvas = canvas;
    this.notes = [];
    this.open = new Map(); // pitch: the note that has not ended
    this.places = keysOf();
  }

  noteOn(pitch, velocity, time) {
    const note = { pitch, velocity, on: time, off: Infinity };
    this.notes.push(note);
    this.open.set(pitch, note);
  }

  noteOff(pitch, time) {
    const note = this.open.get(pitch);
    if (note) note.off = time;
    this.open.delete(pitch);
  }

  /** Nothing that was still to come comes. */
  silence(now) {
    this.notes = this.notes.filter((note) => note.on <= now);
    for (const note of this.notes) note.off = Math.min(note.off, now);
    this.open.clear();
  }

  draw(now) {
    const { canvas, places } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight, dense = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dense)) canvas.width = Math.round(width * dense);
    if (canvas.height !== Math.round(height * dense)) canvas.height = Math.round(height * dense);
    const pen = canvas.getContext("2d");
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.notes = this.notes.filter((note) => note.off > now - SEEN);
    const unit = width / WHITES;
    const top = height - Math.min(90, Math.max(44, 5.2 * unit));
    for (const note of this.notes) this.drawNote(pen, note, now, unit, top);
    const lit = new Set(this.notes.filter(({ on }) => on <= now && now < on + LIT).map(({ pitch }) => pitch));
    for (const black of [false, true]) {
      for (const place of places) {
        if (place.black === black) drawKey(pen, place, lit.has(place.pitch), unit, top, height);
      }
    }
  }

  drawNote(pen, { pitch, velocity, on, off }, now, unit, top) {
    const place = this.places[pitch - LOWEST];
    if (!place || on > now) return;
    const begin = top - ((now - on) / SEEN) * top;
    const end = top - (Math.max(0, now - off) / SEEN) * top;
    pen.globalAlpha = (0.25 + 0.75 * Math.min(1, velocity / 127)) * Math.min(1, Math.max(0, end / top) * 3);
    pen.fillStyle = colour("--note");
    pen.beginPath();
    pen.roundRect(place.x * unit, begin, Math.max(3, place.wide * unit), Math.max(3, end - begin), 2);
    pen.fill();
    pen.globalAlpha = 1;
  }
}

function drawKey(pen, { x, wide, black }, lit, unit, top, height) {
  const gap = black ? 0 : 0.5;
  pen.fillStyle = colour(lit ? "--note" : black ? "--black-key" : "--white-key");
  pen.beginPath();
  pen.roundRect(x * unit + gap, top, wide * unit - 2 * gap, (height - top) * (black ? 0.62 : 1), [0, 0, 3, 3]);
  pen.fill();
}

/** Where each key is, in widths of a white one. */
function keysOf() {
  const places = [];
  let white = 0;
  for (let pitch = LOWEST; pitch <= HIGHEST; pitch++) {
    const black = BLACK.includes(pitch % 12);
    places.push({ pitch, black, x: black ? white - 0.3 : white, wide: black ? 0.6 : 1 });
    if (!black) white++;
  }
  return places;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
