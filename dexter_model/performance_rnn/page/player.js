"use strict";
/* Events as they are drawn become notes in time, half a second ahead of being heard.

   What keeps endless music tolerable is the rules of the original page: no note shorter than 0.5 s or longer than 3 s,
   a state that is forgotten every 30 s, and no haste to make up for lost time. */

const EVENTS_A_CALL = 10;
const AHEAD = 0.5; // s
const MOST_LATE = 1;
const SHORTEST = 0.5;
const LONGEST = 3;
const FORGET_EVERY = 30;
const UNTOLD_VELOCITY = 100; // where velocities are not told
const OFF = 128, SHIFT = 256, VELOCITY = 356; // the first of each kind of event

class Player {
  /** `sound` has now(), noteOn(pitch, velocity, time), noteOff(pitch, time), silence(); `steering()` tells controls. */
  constructor(network, steering, sound, random = Math.random) {
    Object.assign(this, { network, steering, sound, random });
    Object.assign(this, { notes: 0, events: 0, jumps: 0, resets: 0, seconds: 0, timer: null, time: 0 });
    this.sounding = new Map(); // pitch: onset
    this.reset();
  }

  get playing() {
    return this.timer !== null;
  }

  start() {
    this.begin();
    this.timer = setTimeout(() => this.call(), 0);
  }

  /** Where the clock of events stands when music begins. */
  begin() {
    this.reset();
    this.velocity = UNTOLD_VELOCITY;
    this.time = this.forgotten = this.sound.now();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.sounding.clear();
    this.sound.silence();
  }

  /** Forget what was played. */
  reset() {
    this.network.reset();
    this.last = DEFAULT_EVENT;
    this.resets++;
  }

  /** Some events now; others when they are needed. */
  call() {
    this.advance();
    const now = this.sound.now();
    if (now - this.time > MOST_LATE) {
      this.time = now;
      this.jumps++;
    }
    this.timer = setTimeout(() => this.call(), Math.max(0, this.time - now - AHEAD) * 1000);
  }

  advance() {
    const began = performance.now(), steering = this.steering(), drawn = [];
    while (drawn.length < EVENTS_A_CALL) {
      this.last = draw(this.network.step(this.last, steering), this.random());
      drawn.push(this.last);
    }
    this.events += drawn.length;
    this.seconds += (performance.now() - began) / 1000;
    for (const event of drawn) this.play(event);
  }

  play(event) {
    if (event < OFF) this.begins(event);
    else if (event < SHIFT) this.ends(event - OFF);
    else if (event < VELOCITY) this.passes((event - SHIFT + 1) / 100);
    else this.velocity = (event - VELOCITY + 1) * Math.ceil(127 / this.network.told.bins);
  }

  begins(pitch) {
    if (this.sounding.has(pitch)) this.sound.noteOff(pitch, this.time);
    this.sound.noteOn(pitch, this.velocity, this.time);
    this.sounding.set(pitch, this.time);
    this.notes++;
  }

  /** Ends a note that has begun, but not at once. */
  ends(pitch) {
    if (!this.sounding.has(pitch)) return;
    this.sound.noteOff(pitch, Math.max(this.time, this.sounding.get(pitch) + SHORTEST));
    this.sounding.delete(pitch);
  }

  passes(seconds) {
    this.time += seconds;
    for (const [pitch, onset] of this.sounding) if (this.time - onset > LONGEST) this.ends(pitch);
    if (this.time - this.forgotten > FORGET_EVERY) {
      this.forgotten = this.time;
      this.reset();
    }
  }
}
