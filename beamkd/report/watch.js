"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const NONE = 65535;
const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const element = (id) => document.getElementById(id);
const state = { drive: 0, network: 0, frame: 0, speed: 2, timer: null };

/* Numbers */

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function shorts(text) {
  const view = new DataView(bytes(text).buffer);
  return Uint16Array.from({ length: view.byteLength / 2 }, (_, place) => view.getUint16(2 * place, true));
}

for (const each of data.drives) {
  for (const name of ["loss", "beams", "shares", "lidar"]) if (name in each) each[name] = shorts(each[name]);
  for (const name of Object.keys(data.shapes)) each[name] = bytes(each[name]);
}

const drive = () => data.drives[state.drive];
const frames = () => drive().slot.length;

/** Decibels by which a beam has less power than the best one of a frame. */
const loss = (frame, beam) => drive().loss[frame * data.beams + beam] / 100;

/** Likeliest beams of a network, so many slots ahead: [{beam, share}], none where it saw too few frames. */
function guesses(network, frame, ahead) {
  const first = ((network * frames() + frame) * data.slots + ahead) * data.likely;
  const places = Array.from({ length: data.likely }, (_, place) => first + place);
  return places
    .filter((place) => drive().beams[place] !== NONE)
    .map((place) => ({ beam: drive().beams[place], share: drive().shares[place] / 10000 }));
}

/** The frame so many slots ahead; -1 where nothing was recorded. */
const later = (frame, ahead) => drive().slot.indexOf(drive().slot[frame] + ahead, frame);

/** A network's first guess: null if there is none, else its beam, share, and what it loses if that is known. */
function judged(network, frame, ahead = 0) {
  const [first] = guesses(network, frame, ahead);
  if (!first) return null;
  const then = later(frame, ahead);
  if (then < 0) return { ...first, known: false };
  const best = drive().best[then];
  return { ...first, known: true, best, lost: loss(then, first.beam), right: first.beam === best };
}

const isMistake = (frame) => judged(state.network, frame)?.right === false;
const seconds = (slots) => (slots * data.seconds).toFixed(2);
const decibels = (lost) => (lost >= 0.05 ? lost.toFixed(1) : lost.toFixed(2));
const percent = (share) => `${(100 * share).toFixed(0)}\u00a0%`;

/** The frame in which a network may first know, so that a drive begins with a guess. */
function firstGuess() {
  for (let frame = 0; frame < frames(); frame++) if (judged(state.network, frame)) return frame;
  return 0;
}

/* Scales, which stay while a drive plays */

const places = data.drives.flatMap((each) => each.position);
const along = places.map((place) => place[1]);
const across = places.map((place) => place[0]);
const street = {
  left: Math.max(...along, 0) + 2,
  right: Math.min(...along, 0) - 2,
  far: Math.max(...across, 0) + 2,
  near: Math.min(...across, 0),
};
const reach = 0.6 * Math.min(...places.map(([x, y]) => Math.hypot(x, y)));
const depth = Math.min(2 * Math.ceil((mostLost() + 1) / 2), 30);
const step = data.beams > 1 ? Math.abs(data.azimuth[1] - data.azimuth[0]) || 1 : 1;

/** Decibels that all but a hundredth of the beams have at most under the best one. */
function mostLost() {
  const all = Float64Array.from(data.drives.flatMap((each) => Array.from(each.loss))).sort();
  return all[Math.floor(0.99 * (all.length - 1))] / 100;
}

/** Length of a beam or bar, as a share of the best one's. */
const height = (lost) => Math.max(1 - lost / depth, 0.03);

/* Canvases */

let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["card", "ink", "quiet", "line", "plain", "good", "guess", "car", "lidar"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** A cleared canvas of this height in the page's pixels: its context, and its size. */
function cleared(canvas, tall) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  canvas.style.height = `${tall}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(tall * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, tall);
  return { pen, width, tall };
}

/** Text that stays within the canvas. */
function write(pen, text, x, y, { colour = colours.quiet, align = "left", bold = false } = {}) {
  pen.font = `${bold ? "600 " : ""}12px system-ui, sans-serif`;
  const wide = pen.measureText(text).width;
  const left = x - { left: 0, center: 0.5, right: 1 }[align] * wide;
  x = Math.max(Math.min(left, pen.canvas.clientWidth - wide), 0);
  pen.lineWidth = 4;
  pen.strokeStyle = colours.card;
  pen.lineJoin = "round";
  pen.strokeText(text, x, y);
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}

function disc(pen, [x, y], radius, colour, alpha = 1) {
  pen.globalAlpha = alpha;
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
  pen.globalAlpha = 1;
}

function line(pen, points, colour, width, dash = []) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  points.forEach(([x, y], place) => (place ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
  pen.setLineDash([]);
}

/* The street: metres across and along the road, and degrees to the left of straight ahead */

function drawPlan() {
  const canvas = element("plan");
  const room = Math.max(0.6 * window.innerHeight, 240) / (street.far - street.near);
  const scale = Math.min(canvas.clientWidth / (street.left - street.right), room);
  const { pen, width, tall } = cleared(canvas, scale * (street.far - street.near) + 30);
  const margin = (width - scale * (street.left - street.right)) / 2;
  const at = ([x, y]) => [margin + (street.left - y) * scale, (street.far - x) * scale];
  const towards = (degrees, metres) => {
    const angle = (degrees * Math.PI) / 180;
    return at([metres * Math.cos(angle), metres * Math.sin(angle)]);
  };
  drawFan(pen, towards, scale, at([0, 0]));
  drawTrack(pen, at);
  drawScans(pen, towards);
  drawRays(pen, towards);
  if (drive().gps) drawRing(pen, at(drive().gps[state.frame]));
  drawCar(pen, at);
  drawStation(pen, at([0, 0]));
  drawMetres(pen, scale, width, tall);
  canvas.setAttribute("aria-label", `Street from above. ${element("cost").textContent}`);
}

function drawFan(pen, towards, scale, [x, y]) {
  const guess = judged(state.network, state.frame);
  for (let beam = 0; beam < data.beams; beam++) {
    const metres = reach * height(loss(state.frame, beam));
    const best = beam === drive().best[state.frame];
    const ends = [-step / 2, step / 2].map((side) => towards(data.azimuth[beam] + side, metres));
    pen.fillStyle = best ? colours.good : beam === guess?.beam ? colours.guess : colours.plain;
    pen.globalAlpha = best || beam === guess?.beam ? 1 : 0.75;
    pen.beginPath();
    [[x, y], ...ends].forEach((point, place) => (place ? pen.lineTo(...point) : pen.moveTo(...point)));
    pen.fill();
  }
  pen.globalAlpha = 1;
  const edges = [Math.min(...data.azimuth) - step, Math.max(...data.azimuth) + step];
  for (const lost of [0, depth / 2]) {
    const radius = reach * height(lost) * scale;
    pen.strokeStyle = colours.quiet;
    pen.lineWidth = 1;
    pen.setLineDash([2, 4]);
    pen.beginPath();
    pen.arc(x, y, radius, ((-90 - edges[1]) * Math.PI) / 180, ((-90 - edges[0]) * Math.PI) / 180);
    pen.stroke();
    pen.setLineDash([]);
    const [right, down] = towards(edges[0] - 1, reach * height(lost));
    write(pen, lost ? `\u2212${lost} dB` : "best: 0 dB", right + 3, down + 8);
  }
}

function drawTrack(pen, at) {
  const points = drive().position.map(at);
  line(pen, points, colours.line, 2);
  points.forEach((point, frame) => disc(pen, point, 2, colours.car, frame <= state.frame ? 1 : 0.3));
}

/** The scans that networks see, the latest one strongest. */
function drawScans(pen, towards) {
  if (!drive().lidar) return;
  for (let age = data.observed - 1; age >= 0; age--) {
    const frame = state.frame - age;
    if (frame < 0) continue;
    data.bearings.forEach((bearing, ray) => {
      const metres = drive().lidar[frame * data.bearings.length + ray] / 100;
      if (metres > 0.1) disc(pen, towards(bearing, metres), age ? 1.3 : 2.6, colours.lidar, age ? 0.35 : 1);
    });
  }
}

/** Beams drawn on to the car, from where their power ends. */
function drawRays(pen, towards) {
  const beyond = Math.hypot(...drive().position[state.frame]) + 1.5;
  const best = drive().best[state.frame];
  const guess = judged(state.network, state.frame);
  const wrong = guess?.right === false;
  const ends = (beam) => [reach * height(loss(state.frame, beam)), beyond];
  const ray = (beam) => ends(beam).map((metres) => towards(data.azimuth[beam], metres));
  line(pen, ray(best), colours.good, 2.5);
  if (wrong) line(pen, ray(guess.beam), colours.guess, 2.5, [7, 4]);
  data.networks.forEach((_, network) => {
    const other = judged(network, state.frame);
    const place = other && towards(data.azimuth[other.beam], reach * 1.07);
    if (other && network !== state.network) disc(pen, place, 2.5, colours.ink);
  });
  const turned = wrong && data.azimuth[guess.beam] > data.azimuth[best];
  const label = (beam, text, colour, align) => {
    const at = beside(towards(data.azimuth[beam], beyond), { left: 4, right: -4, center: 0 }[align]);
    write(pen, `${text} ${beam}`, ...at, { colour, align, bold: true });
  };
  label(best, "best", colours.good, wrong ? (turned ? "left" : "right") : "center");
  if (wrong) label(guess.beam, "guess", colours.guess, turned ? "right" : "left");
}

const beside = ([x, y], right) => [x + right, Math.max(y - 4, 12)];

function drawRing(pen, [x, y]) {
  pen.strokeStyle = colours.lidar;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(x, y, 10, 0, 2 * Math.PI);
  pen.stroke();
}

function drawCar(pen, at) {
  const last = frames() - 1;
  const [x, y] = at(drive().position[state.frame]);
  const [fromX, fromY] = at(drive().position[Math.max(Math.min(state.frame, last) - 1, 0)]);
  const [toX, toY] = at(drive().position[Math.min(state.frame + 1, last)]);
  pen.save();
  pen.translate(x, y);
  pen.rotate(Math.atan2(toY - fromY, toX - fromX));
  pen.fillStyle = colours.car;
  pen.strokeStyle = colours.card;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(12, 0);
  [[4, -7], [-10, -7], [-10, 7], [4, 7]].forEach((corner) => pen.lineTo(...corner));
  pen.closePath();
  pen.fill();
  pen.stroke();
  pen.restore();
}

function drawStation(pen, [x, y]) {
  pen.fillStyle = colours.ink;
  pen.beginPath();
  pen.moveTo(x, y - 9);
  pen.lineTo(x - 8, y + 6);
  pen.lineTo(x + 8, y + 6);
  pen.fill();
  write(pen, "base station", x, y + 21, { colour: colours.ink, align: "center" });
}

function drawMetres(pen, scale, width, tall) {
  const metres = [1, 2, 5, 10, 20, 50].find((each) => each * scale > 50) || 100;
  const left = width - 12 - metres * scale;
  line(pen, [[left, tall - 14], [width - 12, tall - 14]], colours.ink, 2);
  write(pen, `${metres} m`, left + (metres * scale) / 2, tall - 20, { align: "center" });
}

/* Powers above, probabilities below, a strip for each slot */

function drawAhead() {
  const canvas = element("ahead");
  const strip = Math.min(Math.max(430 / data.slots, 84), 108);
  const { pen, width } = cleared(canvas, strip * data.slots + 18);
  const bar = width / data.beams;
  const most = surest();
  for (let ahead = 0; ahead < data.slots; ahead++) drawStrip(pen, ahead, strip, width, bar, most);
  for (const beam of [...new Set([0, Math.floor(data.beams / 2), data.beams - 1])]) {
    const align = beam === 0 ? "left" : beam === data.beams - 1 ? "right" : "center";
    const x = beam === 0 ? 0 : beam === data.beams - 1 ? width : (beam + 0.5) * bar;
    write(pen, `beam ${beam}`, x, strip * data.slots + 12, { align });
  }
  const label = `Powers of ${data.beams} beams and the guess of the network; the table has the numbers.`;
  canvas.setAttribute("aria-label", label);
}

function drawStrip(pen, ahead, strip, width, bar, most) {
  const top = ahead * strip;
  const middle = top + 22 + 0.5 * (strip - 30);
  const then = later(state.frame, ahead);
  const up = middle - top - 22;
  const down = (strip - 30 - up) / most;
  if (then >= 0)
    for (let beam = 0; beam < data.beams; beam++) {
      const tall = up * height(loss(then, beam));
      pen.fillStyle = beam === drive().best[then] ? colours.good : colours.plain;
      pen.fillRect(beam * bar + 0.5, middle - tall, Math.max(bar - 1, 1), tall);
    }
  for (const { beam, share } of guesses(state.network, state.frame, ahead)) {
    pen.fillStyle = colours.guess;
    pen.fillRect(beam * bar + 0.5, middle + 1, Math.max(bar - 1, 1), Math.max(down * share, 1));
  }
  line(pen, [[0, middle + 0.5], [width, middle + 0.5]], colours.line, 1);
  write(pen, ahead ? `in ${seconds(ahead)} s` : "now", 0, top + 13, { colour: colours.ink, bold: true });
  write(pen, said(ahead, then), width, top + 13, { align: "right" });
}

function said(ahead, then) {
  const guess = judged(state.network, state.frame, ahead);
  const best = then < 0 ? "drive has ended" : `best ${drive().best[then]}`;
  return guess ? `guess ${guess.beam} (${percent(guess.share)}), ${best}` : best;
}

/** The greatest probability that the chosen network gives along the drive. */
function surest() {
  const each = frames() * data.slots * data.likely;
  const own = drive().shares.subarray(state.network * each, (state.network + 1) * each);
  return own.reduce((most, share) => Math.max(most, share), 1) / 10000;
}

/* What the sensors see, besides the LiDAR and GPS on the street */

const PANELS = {
  radar: {
    title: "Radar: distance and direction",
    text: () => "Echoes of what moves; brighter is stronger. The ring is the car's recorded position.",
  },
  doppler: {
    title: "Radar: speed and direction",
    text: () => "Echoes by speed towards the radar, below, and away from it, above; brighter is stronger.",
  },
  masks: { title: "Camera: what moves", text: () => "Pixels that changed since the frame before." },
};

function makePanels() {
  for (const [name, panel] of Object.entries(PANELS)) {
    if (!(name in data.shapes)) continue;
    const figure = document.createElement("figure");
    const title = document.createElement("h2");
    title.textContent = panel.title;
    const canvas = document.createElement("canvas");
    canvas.id = `panel-${name}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${panel.title}. ${panel.text()}`);
    const text = document.createElement("p");
    text.className = "quiet";
    text.textContent = panel.text();
    figure.append(title, canvas, text);
    element("sensors").append(figure);
  }
}

function drawPanels() {
  for (const name of Object.keys(PANELS)) {
    if (!(name in data.shapes)) continue;
    const canvas = element(`panel-${name}`);
    const room = { left: name === "masks" ? 0 : 44, bottom: name === "masks" ? 8 : 34 };
    const side = canvas.clientWidth - room.left;
    const { pen, tall } = cleared(canvas, name === "masks" ? side * 0.75 + 8 : 0.75 * side + room.bottom);
    const box = { x: room.left, y: 4, width: side, height: tall - room.bottom - 4 };
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture(name), box.x, box.y, box.width, box.height);
    if (name !== "masks") drawAxes(pen, name, box);
  }
}

/** A sensor's frame, a pixel a cell: the left of the street on the left. */
function picture(name) {
  const [rows, wide] = data.shapes[name];
  const columns = name === "masks" ? 8 * wide : wide;
  const cells = drive()[name].subarray(state.frame * rows * wide, (state.frame + 1) * rows * wide);
  const bit = (row, column) => (cells[row * wide + (column >> 3)] >> (7 - (column & 7))) & 1;
  const level = (row, column) => cells[(rows - 1 - row) * wide + columns - 1 - column] / 255;
  const colour = name === "masks" ? (...cell) => (bit(...cell) ? MOVES : STANDS) : (...cell) => heat(level(...cell));
  const image = new ImageData(columns, rows);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) image.data.set(colour(row, column), 4 * (row * columns + column));
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const MOVES = [255, 170, 60, 255];
const STANDS = [32, 36, 44, 255];
const HEAT = [[13, 10, 40], [92, 24, 110], [190, 54, 84], [245, 135, 48], [252, 250, 180]];

/** From dark to bright. */
function heat(level) {
  const place = Math.min(level, 0.9999) * (HEAT.length - 1);
  const below = HEAT[Math.floor(place)];
  const above = HEAT[Math.floor(place) + 1];
  const part = place - Math.floor(place);
  return [...below.map((low, channel) => low + part * (above[channel] - low)), 255];
}

function drawAxes(pen, name, box) {
  const [least, most, unit] = name === "radar" ? [0, data.metres, "m"] : [-data.speed, data.speed, "m/s"];
  for (const share of [0, 0.5, 1]) {
    const number = `${Math.round(least + share * (most - least))}`.replace("-", "\u2212");
    const y = box.y + box.height * (1 - share) + [0, 4, 10][2 * share];
    write(pen, share === 1 ? `${number} ${unit}` : number, box.x - 6, y, { align: "right" });
  }
  for (const degrees of [60, 30, 0, -30, -60]) {
    const x = box.x + (box.width * (1 - Math.sin((degrees * Math.PI) / 180))) / 2;
    write(pen, `${Math.abs(degrees)}\u00b0`, x, box.y + box.height + 15, { align: "center" });
  }
  write(pen, "left", box.x, box.y + box.height + 30);
  write(pen, "right", box.x + box.width, box.y + box.height + 30, { align: "right" });
  if (name !== "radar") return;
  const [x, y] = drive().position[state.frame];
  const metres = Math.hypot(x, y);
  pen.strokeStyle = "#ffffff";
  pen.lineWidth = 2;
  pen.beginPath();
  const at = [box.x + (box.width * (1 - y / metres)) / 2, box.y + box.height * (1 - metres / data.metres)];
  pen.arc(...at, 9, 0, 2 * Math.PI);
  pen.stroke();
}

/* Time */

function drawTimeline() {
  const canvas = element("timeline");
  const { pen, width, tall } = cleared(canvas, 48);
  const across = width - 20;
  const bar = Math.max(Math.min(across / frames() - 1, 14), 1);
  const all = Array.from({ length: frames() }, (_, frame) => judged(state.network, frame));
  const worst = Math.max(...all.map((found) => found?.lost || 0), 0.1);
  for (const [frame, found] of all.entries()) {
    const x = 10 + (across * frame) / Math.max(frames() - 1, 1);
    const high = found && !found.right ? 6 + ((tall - 8) * Math.min(found.lost, worst)) / worst : 4;
    pen.fillStyle = !found ? colours.plain : found.right ? colours.good : colours.guess;
    pen.globalAlpha = frame === state.frame ? 1 : 0.7;
    pen.fillRect(x - bar / 2, tall - high, bar, high);
  }
  pen.globalAlpha = 1;
  const x = 10 + (across * state.frame) / Math.max(frames() - 1, 1);
  line(pen, [[x, 0], [x, tall]], colours.ink, 1);
}

function showVerdict() {
  const found = judged(state.network, state.frame);
  const kind = !found ? "waits" : found.right ? "good" : "bad";
  element("verdict").className = `verdict ${kind}`;
  element("outcome").textContent = { waits: "\u2026 Waiting", good: "\u2713 Right", bad: "\u2717 Mistake" }[kind];
  element("cost").textContent = found ? outcome(found) : waiting();
  element("tally").textContent = tally();
}

function waiting() {
  const best = drive().best[state.frame];
  return `A network sees ${data.observed} frames in a row before it guesses. Beam ${best} is the best.`;
}

function outcome({ beam, share, best, lost, right }) {
  const picks = `${data.networks[state.network]}: beam ${beam} (${percent(share)} sure)`;
  if (right) return `${picks}, which is the best.`;
  const kept = percent(10 ** (-lost / 10));
  return `${picks}, but beam ${best} is the best. It loses ${decibels(lost)} dB: ${kept} of the best beam's power.`;
}

function tally() {
  const all = Array.from({ length: frames() }, (_, frame) => judged(state.network, frame)).filter(Boolean);
  if (!all.length) return "";
  const right = all.filter((each) => each.right).length;
  const mean = all.reduce((sum, each) => sum + each.lost, 0) / all.length;
  return `This drive: ${right} of ${all.length} right, ${decibels(mean)} dB lost on average`;
}

/* The table */

function cell(tag, text, small = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (small) made.append(Object.assign(document.createElement("small"), { textContent: small }));
  return made;
}

function row(kind, ...cells) {
  const made = document.createElement("tr");
  made.className = kind;
  cells[0].scope = "row";
  made.append(...cells);
  return made;
}

function showTable() {
  const slots = Array.from({ length: data.slots }, (_, ahead) => ahead);
  const head = document.createElement("thead");
  const titles = slots.map((ahead) => cell("th", ahead ? `in ${seconds(ahead)} s` : "now"));
  titles.forEach((title) => (title.scope = "col"));
  head.append(row("", cell("th", "Network"), ...titles));
  const body = document.createElement("tbody");
  const thens = slots.map((ahead) => later(state.frame, ahead));
  const best = thens.map((then) => cell("td", then < 0 ? "\u2013" : drive().best[then]));
  body.append(row("best", cell("th", "Best beam"), ...best));
  data.networks.forEach((name, network) => {
    const cells = slots.map((ahead) => verdictCell(judged(network, state.frame, ahead)));
    body.append(row(network === state.network ? "chosen" : "", cell("th", name), ...cells));
  });
  element("table").replaceChildren(head, body);
}

function verdictCell(found) {
  if (!found) return cell("td", "\u2026", "waits");
  const small = !found.known ? "?" : found.right ? "\u2713 best" : `\u2717 \u2212${decibels(found.lost)} dB`;
  const made = cell("td", `${found.beam} \u00b7 ${percent(found.share)}`, small);
  made.className = !found.known ? "" : found.right ? "good" : "bad";
  return made;
}

/* Playing */

function show(frame = state.frame) {
  state.frame = Math.min(Math.max(frame, 0), frames() - 1);
  const range = element("frame");
  range.max = frames() - 1;
  range.value = state.frame;
  const since = drive().slot[state.frame] - drive().slot[0];
  const clock = `frame ${state.frame + 1} of ${frames()}, ${seconds(since)} s`;
  range.setAttribute("aria-valuetext", clock);
  element("clock").textContent = clock;
  showVerdict();
  showTable();
  drawTimeline();
  drawPlan();
  drawAhead();
  drawPanels();
}

function pause() {
  clearTimeout(state.timer);
  state.timer = null;
  element("play").textContent = "Play";
  element("verdict").setAttribute("aria-live", "polite");
}

function play() {
  if (state.frame === frames() - 1) show(0);
  element("play").textContent = "Pause";
  element("verdict").setAttribute("aria-live", "off");
  const next = () => {
    show(state.frame + 1);
    if (state.frame === frames() - 1) pause();
    else state.timer = setTimeout(next, wait());
  };
  state.timer = setTimeout(next, wait());
}

/** Milliseconds from frame to frame. */
const wait = () => (1000 * data.seconds) / SPEEDS[state.speed];
const toggle = () => (state.timer === null ? play() : pause());

function go(frame) {
  pause();
  show(frame);
}

/** The next frame in which the chosen network is wrong; from the end on, of the next drive that has one. */
function nextMistake() {
  pause();
  for (let frame = state.frame + 1; frame < frames(); frame++) if (isMistake(frame)) return show(frame);
  for (let turn = 0; turn < data.drives.length; turn++) {
    state.drive = (state.drive + 1) % data.drives.length;
    const found = Array.from({ length: frames() }, (_, frame) => frame).find(isMistake);
    if (found === undefined) continue;
    element("drive").value = state.drive;
    return show(found);
  }
}

function setSpeed(speed) {
  state.speed = Math.min(Math.max(speed, 0), SPEEDS.length - 1);
  element("speed").textContent = `${SPEEDS[state.speed]}\u00d7`;
  element("slower").disabled = state.speed === 0;
  element("faster").disabled = state.speed === SPEEDS.length - 1;
}

const KEYS = {
  " ": toggle,
  ArrowLeft: () => go(state.frame - 1),
  ArrowRight: () => go(state.frame + 1),
  Home: () => go(0),
  End: () => go(frames() - 1),
  n: nextMistake,
  "+": () => setSpeed(state.speed + 1),
  "=": () => setSpeed(state.speed + 1),
  "-": () => setSpeed(state.speed - 1),
};

/** Keys act wherever nothing else has a use for them. */
function press(event) {
  const own = { SELECT: () => true, BUTTON: (key) => key === " ", INPUT: (key) => key.startsWith("Arrow") };
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.altKey || event.metaKey || own[event.target.tagName]?.(event.key)) return;
  event.preventDefault();
  act();
}

function option(text, value) {
  return Object.assign(document.createElement("option"), { textContent: text, value });
}

function legend(kind, colour, text) {
  const item = document.createElement("li");
  const mark = Object.assign(document.createElement("i"), { className: kind });
  mark.style.color = mark.style.borderColor = colour;
  if (kind === "dot") mark.style.background = colour;
  item.append(mark, text);
  return item;
}

function explain() {
  const items = [
    ["dot", "var(--car)", "car and its recorded track"],
    ["stroke", "var(--good)", "best beam"],
    ["stroke", "var(--guess)", "the network's guess, if it is another"],
  ];
  if (data.networks.length > 1) items.push(["dot", "var(--ink)", "other networks' guesses"]);
  if (data.drives[0].lidar) items.push(["dot", "var(--lidar)", `LiDAR: what moves, last ${data.observed} scans`]);
  if (data.drives[0].gps) items.push(["ring", "var(--lidar)", "position by GPS"]);
  element("legend").append(...items.map((item) => legend(...item)));
  element("depth").textContent = `received power of each beam (bars begin ${depth} dB under the best)`;
  element("fan").textContent = `The fan: received power of each beam now, in dB under the best one's.`;
}

function start() {
  for (const [place, { number, slot }] of data.drives.entries())
    element("drive").append(option(`${number} (${(slot.length * data.seconds).toFixed(1)}\u00a0s)`, place));
  data.networks.forEach((name, place) => element("network").append(option(name, place)));
  element("drive").addEventListener("change", (event) => {
    state.drive = Number(event.target.value);
    go(firstGuess());
  });
  element("network").addEventListener("change", (event) => {
    state.network = Number(event.target.value);
    show();
  });
  element("frame").addEventListener("input", (event) => go(Number(event.target.value)));
  element("play").addEventListener("click", toggle);
  element("mistake").addEventListener("click", nextMistake);
  element("slower").addEventListener("click", () => setSpeed(state.speed - 1));
  element("faster").addEventListener("click", () => setSpeed(state.speed + 1));
  document.addEventListener("keydown", press);
  new ResizeObserver(() => show()).observe(element("plan").parentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    show();
  });
  readColours();
  makePanels();
  explain();
  setSpeed(state.speed);
  show(firstGuess());
}

start();
