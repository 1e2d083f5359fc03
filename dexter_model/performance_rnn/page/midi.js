"use strict";
/* MIDI to instruments and from them, where the browser has it. */

const ALONE = 1000; // ms without a note after which those that come begin a new histogram
const UNPLAYED = 30000; // ms without a note after which the network is no longer steered by them

/**
 * A sound as `Piano` is one, by an instrument at a MIDI output; `clock` is what times are told by.
 *
 * What is sent cannot be called back. So the end of a note waits here until its time, or until its key goes down again.
 */
class Instrument {
  constructor(output, clock) {
    Object.assign(this, { output, clock, held: new Set(), ends: new Map(), latest: 0 });
  }

  now() {
    return this.clock.now();
  }

  noteOn(pitch, velocity, time) {
    const begin = this.stamp(time);
    this.end(pitch, begin);
    this.held.add(pitch);
    this.latest = Math.max(this.latest, begin);
    this.output.send([0x90, pitch, Math.max(1, Math.min(127, Math.round(velocity)))], begin);
  }

  noteOff(pitch, time) {
    const at = this.stamp(time);
    clearTimeout(this.ends.get(pitch)?.timer);
    this.ends.set(pitch, { at, timer: setTimeout(() => this.end(pitch, at), at - performance.now()) });
  }

  /** Send the end that waits for a key, if one does, and let it be no later than told. */
  end(pitch, latest) {
    const waiting = this.ends.get(pitch);
    if (!waiting) return;
    clearTimeout(waiting.timer);
    this.ends.delete(pitch);
    this.output.send([0x80, pitch, 0], Math.min(waiting.at, latest));
  }

  silence() {
    const now = performance.now();
    const ends = this.latest < now ? [now] : [now, this.latest + 1]; // what is on its way cannot be called back
    for (const pitch of [...this.ends.keys()]) this.end(pitch, now);
    for (const end of ends) for (const pitch of this.held) this.output.send([0x80, pitch, 0], end);
    this.held.clear();
  }

  /** In the browser's ms, of a time in s. */
  stamp(time) {
    return performance.now() + 1000 * Math.max(0, time - this.clock.now());
  }
}

/** Listens to what somebody plays: its pitch classes become the weights that steer. */
class Listener {
  /** `heard` is called with each pitch, whether it begins something new; `ended` when nobody has played for long. */
  constructor(heard, ended) {
    Object.assign(this, { heard, ended, input: null, last: -Infinity, timer: null });
  }

  listen(input) {
    if (this.input) this.input.onmidimessage = null;
    this.input = input;
    if (input) input.onmidimessage = (message) => this.take(message.data, message.timeStamp);
  }

  take([status, pitch, velocity], time) {
    if ((status & 0xf0) !== 0x90 || velocity === 0) return;
    this.heard(pitch, time - this.last > ALONE);
    this.last = time;
    clearTimeout(this.timer);
    this.timer = setTimeout(this.ended, UNPLAYED);
  }
}

/** Fill lists of what can be played to and listened to, now and whenever something is plugged in. */
async function offerMidi(outputs, inputs) {
  const access = await navigator.requestMIDIAccess();
  const offer = () => {
    for (const [list, ports] of [[outputs, access.outputs], [inputs, access.inputs]]) {
      const chosen = list.value;
      list.length = 1;
      for (const port of ports.values()) list.add(new Option(port.name, port.id));
      list.value = ports.has(chosen) ? chosen : "";
      if (list.value !== chosen) list.dispatchEvent(new Event("change"));
    }
  };
  access.onstatechange = offer;
  offer();
  return access;
}
