"use strict";
/* The network, an event at a time: what `PerformanceRnn.step` does, with weights as `browser.py` lays them out. */

const DEFAULT_EVENT = 355; // a second passes: what comes before the first event

/** The numbers of a base64 text: little-endian, of two bytes each or of four. */
function numbersOf(base64, precision) {
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  if (precision === "float32") return new Float32Array(bytes.buffer);
  const halves = new Uint16Array(bytes.buffer);
  const values = new Float32Array(65536);
  for (let bits = 0; bits < values.length; bits++) values[bits] = half(bits);
  return Float32Array.from(halves, (bits) => values[bits]);
}

function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
  return bits >> 15 ? -size : size;
}

/** z += x W for W of (x.length, z.length), four rows at a time, as reading and writing z takes most of the time. */
function addProduct(z, x, W) {
  const n = z.length;
  const whole = x.length - (x.length % 4);
  for (let k = 0; k < whole; k += 4) {
    const a = x[k], b = x[k + 1], c = x[k + 2], d = x[k + 3];
    const A = W.subarray(k * n, k * n + n), B = W.subarray(k * n + n, k * n + 2 * n);
    const C = W.subarray(k * n + 2 * n, k * n + 3 * n), D = W.subarray(k * n + 3 * n, k * n + 4 * n);
    for (let j = 0; j < n; j++) z[j] += a * A[j] + b * B[j] + c * C[j] + d * D[j];
  }
  for (let k = whole; k < x.length; k++) addRow(z, x[k], W, k);
}

/** z += x times row k of W. */
function addRow(z, x, W, k) {
  const n = z.length;
  const row = W.subarray(k * n, k * n + n);
  if (x !== 0) for (let j = 0; j < n; j++) z[j] += x * row[j];
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

class Network {
  /** `told` is the page's description of the model; `numbers` are its weights, one after another. */
  constructor(told, numbers) {
    Object.assign(this, { told, numbers });
    this.layers = [];
    let used = 0;
    const take = (size) => numbers.subarray(used, (used += size));
    let inputs = 0;
    for (const cells of told.layers) {
      const gates = 4 * cells;
      const first = inputs === 0;
      this.layers.push({
        cells,
        events: first ? take(told.classes * gates) : null,
        controls: first ? take(told.controls * gates) : null,
        kernel: first ? null : take(inputs * gates),
        recurrent: take(cells * gates),
        bias: take(gates), // with what the forget gate is lifted by
        gates: new Float32Array(gates),
        c: new Float32Array(cells),
        h: new Float32Array(cells),
      });
      inputs = cells;
    }
    this.head = take(inputs * told.classes);
    this.headBias = take(told.classes);
    this.logits = new Float32Array(told.classes);
    if (used !== numbers.length) throw new Error(`${numbers.length} weights, ${used} expected`);
  }

  /** Forget everything. */
  reset() {
    for (const layer of this.layers) {
      layer.c.fill(0);
      layer.h.fill(0);
    }
  }

  /** Logits of the event after `event`, steered by `controls`; overwritten by the next step. */
  step(event, controls) {
    let x = null;
    for (const layer of this.layers) {
      const z = layer.gates;
      z.set(layer.bias);
      if (x) addProduct(z, x, layer.kernel);
      else {
        addRow(z, 1, layer.events, event);
        for (let k = 0; k < controls.length; k++) addRow(z, controls[k], layer.controls, k);
      }
      addProduct(z, layer.h, layer.recurrent);
      this.activate(layer);
      x = layer.h;
    }
    this.logits.set(this.headBias);
    addProduct(this.logits, x, this.head);
    return this.logits;
  }

  /** Gates in the order input, candidate, forget, output. */
  activate({ cells, gates, c, h }) {
    for (let k = 0; k < cells; k++) {
      const added = sigmoid(gates[k]) * Math.tanh(gates[cells + k]);
      c[k] = c[k] * sigmoid(gates[2 * cells + k]) + added;
      h[k] = Math.tanh(c[k]) * sigmoid(gates[3 * cells + k]);
    }
  }
}

/** An event drawn from the softmax of logits by a uniform random number. */
function draw(logits, uniform) {
  let highest = -Infinity;
  for (const logit of logits) highest = Math.max(highest, logit);
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit - highest));
  let left = uniform * weights.reduce((sum, weight) => sum + weight, 0);
  for (let event = 0; event < weights.length; event++) {
    left -= weights[event];
    if (left < 0) return event;
  }
  return weights.length - 1;
}
