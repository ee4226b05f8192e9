"use strict";

const $ = (id) => document.getElementById(id);

// -- asking the server

let session = null;
let model = null;

function remembered(value) {
  // this tab's alone; where a browser keeps nothing (some frames), a reload starts anew
  try {
    if (value) sessionStorage.setItem("attnseg", value);
    return sessionStorage.getItem("attnseg");
  } catch {
    return session;
  }
}

async function asked(path, body = {}, signal = undefined) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: session ? { "X-Session": session } : {},
      body: body instanceof Blob ? body : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The program does not answer; is it still running?");
  }
  if (!response.ok || response.headers.has("X-Error")) {
    const said = await response.json().catch(() => ({}));
    throw new Error(said.error || "The program does not answer as it should.");
  }
  return response;
}

const json = async (...words) => (await asked(...words)).json();

/** The last of an answer's lines, each other one told to `each` as it comes. */
async function lines(path, body, signal, each) {
  const response = await asked(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", last = null;
  const broken = (problem) => {
    if (problem?.name === "AbortError") throw problem;
    throw new Error("The program stopped answering; is it still running?");
  };
  for (;;) {
    const { value, done } = await reader.read().catch(broken);
    if (done) break;
    const whole = (text + value).split("\n");
    text = whole.pop();
    for (const line of whole) {
      if (last) each(last);
      last = JSON.parse(line);
    }
  }
  if (last?.error) throw new Error(last.error);
  return last?.picture ? last : broken();
}

function complain(problem) {
  $("error").textContent = problem ? problem.message || problem : "";
  $("error").hidden = !problem;
  if (problem) $("error").scrollIntoView({ block: "nearest" });
}

/** Run it; what goes wrong is said in the page. */
async function trying(work) {
  try {
    complain(null);
    return await work();
  } catch (problem) {
    if (problem.name !== "AbortError") complain(problem);
  }
}

/** A function that gives the focus back to what has it now, if the page takes it away meanwhile. */
function keptFocus(instead) {
  const had = document.activeElement;
  return () => {
    if (had === document.body || document.activeElement !== document.body) return;
    const able = had.isConnected && !had.disabled && had.checkVisibility();
    (able ? had : instead()).focus({ preventScroll: true });
  };
}

/** Run a long work of a tab: its seconds, a button that cancels it, and what it tells by `tell`. */
async function working(tab, button, figure, work) {
  const box = $(`${tab}-working`), bar = box.querySelector("progress"), said = box.querySelector("span");
  const cancel = box.querySelector("button"), stop = new AbortController(), start = performance.now();
  const refocus = keptFocus(() => button);
  let words = "";
  const show = () => (said.textContent = `${words} ${Math.round((performance.now() - start) / 1000)} s`);
  const tell = (text, done = null, of = 1) => {
    words = text;
    if (done === null) bar.removeAttribute("value");
    else Object.assign(bar, { max: of, value: done });
    show();
  };
  button.disabled = true;
  box.hidden = false;
  figure.classList.add("busy");
  cancel.onclick = () => stop.abort();
  const ticking = setInterval(show, 1000);
  try {
    return await work(tell, stop.signal);
  } catch (problem) {
    if (problem.name === "AbortError") box.parentElement.querySelector("[role=status]").textContent = "Cancelled.";
    throw problem;
  } finally {
    clearInterval(ticking);
    button.disabled = false;
    if (box.contains(document.activeElement)) button.focus();
    box.hidden = true;
    figure.classList.remove("busy");
    refocus();
  }
}

/** A function that runs `work` for its latest call alone, one at a time. */
function latest(work) {
  let running = null, again = false;
  return function call() {
    if (running) {
      again = true;
      return running;
    }
    running = (async () => {
      do {
        again = false;
        await work();
      } while (again);
    })().finally(() => (running = null));
    return running;
  };
}

// -- drawing

const STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis

function viridis(value) {
  const at = (value / 255) * (STOPS.length - 1), low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((from, i) => Math.round(from + (at - low) * (STOPS[low + 1][i] - from)));
}
const VIRIDIS = Array.from({ length: 256 }, (_, value) => viridis(value));

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function canvasOf(width, height, colour) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set(colour(i), 4 * i);
  context.putImageData(image, 0, 0);
  return canvas;
}

function mapCanvas({ width, height, values }) {
  const bytes = bytesOf(values);
  const canvas = canvasOf(width, height, (i) => [...VIRIDIS[bytes[i]], 255]);
  return canvas;
}

function rgb(hexadecimal) {
  return [1, 3, 5].map((at) => parseInt(hexadecimal.slice(at, at + 2), 16));
}

/** The mask as a layer: inside at `opacity`, edges wholly. */
function maskCanvas(answer, opacity) {
  const { width, height, classes } = answer, labels = answer.bytes;
  const colours = classes.map((each) => (each.colour ? rgb(each.colour) : [0, 0, 0]));
  return canvasOf(width, height, (i) => {
    const label = labels[i];
    if (!label) return [0, 0, 0, 0];
    const x = i % width, y = (i - x) / width;
    const edge =
      (x > 0 && labels[i - 1] !== label) || (x < width - 1 && labels[i + 1] !== label) ||
      (y > 0 && labels[i - width] !== label) || (y < height - 1 && labels[i + width] !== label);
    return [...colours[label], edge ? 255 : Math.round(255 * opacity)];
  });
}

/** A picture with layers over it and the names of classes on them, as large as the place allows. */
class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.image = null;
    this.layer = null; // of a mask, or a map
    this.names = [];
    this.cursor = null;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  draw() {
    const { canvas, image } = this;
    const room = canvas.parentElement.clientWidth;
    if (!image || !room) return;
    const tall = Math.max(240, 0.72 * window.innerHeight);
    const scale = Math.min(room / image.width, tall / image.height, 16);
    const width = Math.max(1, Math.round(image.width * scale)), height = Math.max(1, Math.round(image.height * scale));
    const fine = window.devicePixelRatio || 1;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * fine);
    canvas.height = Math.round(height * fine);
    const context = canvas.getContext("2d");
    context.scale(fine, fine);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    if (this.layer) {
      context.globalAlpha = this.layer.alpha ?? 1;
      context.imageSmoothingEnabled = this.layer.smooth ?? scale < 1;
      context.drawImage(this.layer.canvas, 0, 0, width, height);
      context.globalAlpha = 1;
    }
    for (const { name, place, colour } of this.names) if (place) this.label(context, name, place, colour, width, height);
    if (this.cursor) {
      const [x, y] = this.cursor, side = Math.max(scale, 7);
      const left = (x + 0.5) * scale - side / 2, top = (y + 0.5) * scale - side / 2;
      context.lineWidth = 3;
      context.strokeStyle = "#000";
      context.strokeRect(left, top, side, side);
      context.lineWidth = 1.5;
      context.strokeStyle = "#fff";
      context.strokeRect(left, top, side, side);
    }
  }

  label(context, name, [x, y], colour, width, height) {
    const size = Math.max(12, Math.min(18, width / 22));
    context.font = `600 ${size}px system-ui, sans-serif`;
    const text = name.length > 28 ? `${name.slice(0, 27)}…` : name;
    const wide = context.measureText(text).width + 0.9 * size, high = 1.5 * size;
    const left = Math.max(0, Math.min(width - wide, x * width - wide / 2));
    const top = Math.max(0, Math.min(height - high, y * height - high / 2));
    context.fillStyle = "#000c";
    context.beginPath();
    context.roundRect(left, top, wide, high, 4);
    context.fill();
    context.fillStyle = colour;
    context.fillRect(left, top + 3, 4, high - 6);
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(text, left + 0.5 * size, top + high / 2 + 1);
  }

  /** The pixel of the picture under a pointer. */
  pixel(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = (share, pixels) => Math.max(0, Math.min(pixels - 1, Math.floor(share * pixels)));
    return [
      at((event.clientX - box.left) / box.width, this.image.width),
      at((event.clientY - box.top) / box.height, this.image.height),
    ];
  }
}

function loadedImage(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("The picture cannot be shown."));
    image.src = source;
  });
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function keyOf(colour) {
  const key = element("span", { className: "key" });
  key.style.background = colour;
  return key;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const duration = (seconds) => (seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`);

function namesOf(answer) {
  return answer.classes.filter((each) => each.place);
}

// -- photos

const view = new View($("canvas"));
let photos = []; // as the server tells them, with `answer`, `image`, `look` of ours
let current = null;
let shownMap = null; // the one that is laid over the photo
let openClass = 0;

const SLIDERS = ["threshold", "power", "iterations", "position", "colour", "smoothness"];

function sliders(photo) {
  return photo.sliders; // only what was moved: else the program's own values hold, exactly
}

/** Add files, and go to the first; those that cannot be read are named, and keep no other from being added. */
async function add(files) {
  await started; // else the photos of before would take their place
  await trying(async () => {
    let first = null;
    const problems = new Set();
    for (const file of files) {
      try {
        const photo = await added(file);
        photos.push(photo);
        first ||= photo;
        listPhotos();
      } catch (problem) {
        problems.add(problem.message);
      }
    }
    if (first) {
      await choose(first);
      if (innerWidth < 1100) $("ask").scrollIntoView(); // the photo is below the list
      else askWords();
    }
    if (problems.size) throw new Error([...problems].join("\n"));
  });
}

async function added(file) {
  if (file.size > model.bytes) {
    const most = Math.round(model.bytes / 2 ** 20);
    throw new Error(`${file.name} has ${(file.size / 2 ** 20).toFixed(0)} MB; the most is ${most} MB: make it smaller.`);
  }
  return json(`api/photos/add?name=${encodeURIComponent(file.name || "pasted.png")}`, file);
}

/** The next that is typed names what is in the photo. */
function askWords() {
  $("classes").focus({ preventScroll: true });
  $("classes").select();
}

async function addExample(example) {
  const there = photos.find((photo) => photo.name === `${example.name}.png`);
  if (there) return trying(() => choose(there));
  await add([new File([dataBlob(example.picture)], `${example.name}.png`, { type: "image/png" })]);
  $("classes").value = example.classes.join(", ");
  await lookAt();
}

function dataBlob(address) {
  return new Blob([bytesOf(address.slice(address.indexOf(",") + 1))], { type: "image/png" });
}

function listPhotos() {
  const before = [...$("photos").querySelectorAll("button")], place = before.indexOf(document.activeElement);
  $("photos").replaceChildren(
    ...photos.map((photo) => {
      const image = element("img", { src: photo.picture, alt: "" });
      if (photo.width < 200) image.className = "small";
      const about = photo.classes.length ? photo.classes.join(", ") : "not looked at yet";
      const pick = element("button", { type: "button" }, image, element("div", {}, photo.name, element("span", { textContent: about, title: about })));
      pick.setAttribute("aria-current", String(photo === current));
      pick.onclick = () =>
        trying(async () => {
          await choose(photo);
          if (!photo.looked && innerWidth >= 1100) askWords(); // on a small one it would hide the photo by its keyboard
        });
      const away = element("button", { type: "button", textContent: "×", title: `Remove ${photo.name}` });
      away.setAttribute("aria-label", `Remove ${photo.name}`);
      away.onclick = () => trying(() => remove(photo));
      return element("li", {}, pick, away);
    }),
  );
  if (place < 0) return; // else the focus stays where it was; of a photo removed, it goes to the next, or the one before
  const buttons = [...$("photos").querySelectorAll("button")];
  const next = buttons.length < before.length ? place - (place % 2) : place;
  (buttons[next] || buttons.at(-2) || $("choose")).focus({ preventScroll: true });
}

async function remove(photo) {
  await asked(`api/photos/${photo.number}/remove`);
  photos = photos.filter((each) => each !== photo);
  listPhotos();
  if (photo === current) {
    if (photos.length) await choose(photos[photos.length - 1]);
    else show(null);
  }
}

async function choose(photo) {
  photo.image ||= await loadedImage(photo.picture);
  show(photo);
  if (photo.looked && !photo.answer) await refine();
}

/** Everything of a photo, or of none. */
function show(photo) {
  current = photo;
  shownMap = null;
  openClass = 0;
  $("maps-box").hidden = true;
  $("command-box").hidden = true;
  $("empty").hidden = Boolean(photo);
  $("figure").hidden = !photo;
  $("look").disabled = !photo;
  view.image = photo && photo.image;
  view.cursor = null;
  if (!photo) $("classes").value = "";
  else if (photo.asked.classes) setQuestion(photo.asked);
  $("pixel-text").textContent = "Point at the photo.";
  $("pixel-scores").replaceChildren();
  $("attended").hidden = true;
  if (photo) setSliders(photo);
  listPhotos();
  render();
}

/** What the form asks of a photo. */
function question() {
  const asked = { classes: $("classes").value, noises: Number($("noises").value), seed: Number($("seed").value) };
  if ($("no-background").checked) asked.background = "";
  else if ($("background").value.trim()) asked.background = $("background").value.trim();
  return asked;
}

function setQuestion({ classes, noises, seed, background }) {
  $("classes").value = classes;
  $("noises").value = noises;
  $("seed").value = seed;
  $("no-background").checked = $("background").disabled = background === "";
  $("background").value = background || "";
}

async function lookAt() {
  const photo = current;
  if (!photo) return;
  await trying(async () => {
    const body = question();
    photo.look = await working("find", $("look"), $("figure"), (tell, signal) => {
      tell(`Looking at ${photo.name}, on ${model.device}…`);
      return json(`api/photos/${photo.number}/look`, body, signal);
    });
    photo.looked = true;
    photo.classes = photo.look.classes;
    photo.asked = { ...body, background: body.background ?? null };
    if (photo === current) {
      shownMap = null;
      openClass = 0;
      $("maps-box").hidden = true;
    }
    listPhotos();
    await refine();
  });
}

const unseen = () => photos.filter((photo) => !photo.looked);

/** The photos that one press asks: those that nobody has looked at; if there is none, and the words of the one that
    is shown were changed, those that had the same words. */
function askable() {
  const left = unseen();
  if (left.length || !current || $("classes").value === current.asked.classes) return left;
  return photos.filter((photo) => photo.asked.classes === current.asked.classes);
}

function offerAll() {
  const button = $("look-all"), left = unseen().length, { length } = askable();
  button.hidden = length < 2 && !(left && current?.looked);
  button.textContent = `Find in ${length === photos.length ? `all ${length}` : left ? `the other ${length}` : `the ${length} alike`}`;
  button.title = left ? "" : "In photos that had the same words";
}
$("classes").addEventListener("input", offerAll);

/** The same words for several photos; Cancel, or words that cannot be found, end it. */
async function lookAtAll() {
  const asked = question(), button = $("look-all"), refocus = keptFocus(() => $("look"));
  button.disabled = true;
  for (const photo of askable()) {
    if (!photos.includes(photo)) continue; // removed meanwhile
    await trying(() => choose(photo));
    if (photo !== current) break; // another was chosen meanwhile
    setQuestion(asked);
    await lookAt();
    if (photo.asked.classes !== asked.classes) break;
  }
  button.disabled = false;
  refocus();
}

/** The mask as the sliders want it, from what is kept. */
const refine = latest(async () => {
  const photo = current;
  if (!photo || !photo.looked) return;
  try {
    const answer = await json(`api/photos/${photo.number}/mask`, sliders(photo));
    answer.bytes = bytesOf(answer.labels);
    photo.answer = answer;
    if (photo !== current) return;
    render();
    if (openClass) await openMaps(openClass);
    if (view.cursor) await askPixel();
    if (!$("command-box").hidden) await showCommand();
  } catch (problem) {
    complain(problem);
  }
});

function render() {
  const photo = current, answer = photo && photo.answer;
  const opacity = Number($("opacity").value);
  if (!answer) {
    view.layer = null;
    view.names = [];
    $("legend").replaceChildren();
  } else if (shownMap) {
    view.layer = { canvas: shownMap.canvas, alpha: Math.max(0.15, opacity), smooth: true };
    view.names = [];
  } else {
    view.layer = { canvas: maskCanvas(answer, opacity) };
    view.names = namesOf(answer);
  }
  view.draw();
  for (const button of document.querySelectorAll("[data-file], #command")) button.disabled = !answer;
  document.querySelector("[data-file=photo]").disabled = !photo;
  const coco = document.querySelector("[data-file=coco]"), looked = photos.filter((each) => each.looked).length;
  coco.disabled = !looked;
  coco.textContent = looked === photos.length ? "COCO, all photos" : `COCO, ${looked} of ${photos.length} photos`;
  offerAll();
  $("sliders").disabled = $("canvas-hint").hidden = !answer;
  if (answer) legend();
  if (photo) $("status").textContent = statusOf(photo);
  else $("status").textContent = "";
  $("canvas").setAttribute("aria-label", photo ? described(photo) : "The photo");
  for (const name of [...SLIDERS, "opacity"]) output(name);
}

function described(photo) {
  if (!photo.answer) return `The photo ${photo.name}`;
  return `The photo ${photo.name}: ${photo.answer.classes.map((each) => `${each.name} ${percent(each.share)}`).join(", ")}`;
}

function statusOf(photo) {
  const { look, answer } = photo;
  if (!answer) return photo.looked ? "" : "Name what is in the photo, then press Find.";
  const flat = answer.classes.filter((each) => each.flat).map((each) => each.name);
  const nothing = flat.length ? `No attention at all for: ${flat.join(", ")}. ` : "";
  const seen = look
    ? `The network looked for ${duration(look.seconds)} on ${look.device} (${look.noises} noise${look.noises > 1 ? "s" : ""}` +
      `${look.sentences > 1 ? `, ${look.sentences} sentences` : ""}; ${answer.passes} pass${answer.passes > 1 ? "es" : ""} since the start). `
    : `Passes of the network since the start: ${answer.passes}. `;
  return `${nothing}${seen}The last mask took ${duration(answer.seconds)} from the kept attention.`;
}

function legend() {
  $("legend").replaceChildren(
    ...current.answer.classes.map((each, number) => {
      if (!number) return element("span", {}, `background ${percent(each.share)}`);
      const button = element("button", { type: "button" }, keyOf(each.colour), `${each.name} ${percent(each.share)}`);
      button.title = `The maps behind ${each.name}`;
      button.setAttribute("aria-pressed", String(openClass === number));
      button.onclick = () => trying(() => (openClass === number ? closeMaps() : openMaps(number)));
      return button;
    }),
  );
}

function closeMaps() {
  openClass = 0;
  shownMap = null;
  $("maps-box").hidden = true;
  render();
}

async function openMaps(number) {
  const photo = current, iterations = Number($("iterations").value);
  const { name, maps } = await json(`api/photos/${photo.number}/maps`, { class: number, iterations });
  if (photo !== current) return;
  openClass = number;
  $("maps-title").textContent = `What is behind ${name}`;
  $("maps-box").hidden = false;
  const was = shownMap && shownMap.title;
  shownMap = null;
  $("maps").replaceChildren(
    ...maps.map((map) => {
      const canvas = mapCanvas(map), button = element("button", { type: "button" }, canvas, `${map.title} `);
      button.append(element("span", { className: "hint", textContent: `(${map.grid.join("\u00a0×\u00a0")})` }));
      const entry = { title: map.title, canvas };
      if (was === map.title) shownMap = entry;
      button.setAttribute("aria-pressed", String(was === map.title));
      button.onclick = () => {
        const on = !shownMap || shownMap.title !== map.title;
        shownMap = on ? entry : null;
        for (const other of $("maps").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-pressed", String(on));
        render();
      };
      return element("li", {}, button);
    }),
  );
  render();
}

// -- a pixel

const askPixel = latest(async () => {
  const photo = current;
  if (!photo || !photo.answer || !view.cursor) return;
  const [x, y] = view.cursor;
  try {
    const { scores, attended } = await json(`api/photos/${photo.number}/pixel`, { x, y });
    if (photo !== current) return;
    $("pixel-text").textContent = `Column ${x}, row ${y}. It attends to what is bright:`;
    const canvas = $("attended"), map = mapCanvas(attended);
    canvas.hidden = false;
    canvas.width = 256;
    canvas.height = Math.max(1, Math.round((256 * map.height) / map.width));
    const context = canvas.getContext("2d");
    context.drawImage(map, 0, 0, canvas.width, canvas.height);
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.strokeRect(((x + 0.5) / photo.width) * canvas.width - 4, ((y + 0.5) / photo.height) * canvas.height - 4, 8, 8);
    $("pixel-scores").replaceChildren(
      ...scores.map(({ name, share, score }, number) => {
        const bar = element("u");
        bar.style.width = percent(share).replace(" ", "");
        if (number) bar.style.background = photo.answer.classes[number].colour;
        const row = element("div", { className: "score" }, element("b", { textContent: name, title: name }), element("i", {}, bar), score.toFixed(2));
        return row;
      }),
    );
  } catch (problem) {
    complain(problem);
  }
});

function point(x, y) {
  view.cursor = [x, y];
  view.draw();
  askPixel();
}

$("canvas").addEventListener("pointermove", (event) => view.image && point(...view.pixel(event)));
$("canvas").addEventListener("pointerdown", (event) => view.image && point(...view.pixel(event)));
$("canvas").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step || !view.image) return;
  event.preventDefault();
  const { width, height } = view.image, far = event.shiftKey ? 10 : 1;
  const [x, y] = view.cursor || [Math.floor(width / 2), Math.floor(height / 2)];
  point(Math.max(0, Math.min(width - 1, x + far * step[0])), Math.max(0, Math.min(height - 1, y + far * step[1])));
});

// -- sliders

function output(name) {
  const input = $(name), label = document.querySelector(`label[for="${name}"] output`);
  label.textContent = name === "opacity" ? percent(input.value).replace(".0", "") : Number(Number(input.value).toFixed(2));
  const usual = name !== "opacity" && current && current.sliders[name] === undefined;
  if (usual) label.textContent = Number(current.usual[name].toFixed(2)); // exactly, which steps may miss
  input.setAttribute("aria-valuetext", label.textContent);
}

function setSliders(photo) {
  const reach = $("position");
  reach.max = Math.max(60, Math.ceil(3 * photo.usual.position));
  for (const name of SLIDERS) $(name).value = photo.sliders[name] ?? photo.usual[name];
  $("crf").checked = model.crf && (photo.sliders.crf ?? true);
  $("crf").disabled = !model.crf;
  $("crf-sliders").hidden = !$("crf").checked;
}

for (const name of SLIDERS) {
  $(name).addEventListener("input", () => {
    if (!current) return;
    current.sliders = { ...current.sliders, [name]: Number($(name).value) };
    output(name);
    refine();
  });
}
$("crf").addEventListener("change", () => {
  if (!current) return;
  current.sliders = { ...current.sliders, crf: $("crf").checked };
  $("crf-sliders").hidden = !$("crf").checked;
  refine();
});
$("opacity").addEventListener("input", () => {
  output("opacity");
  render();
});
$("reset").addEventListener("click", () => {
  if (!current) return;
  current.sliders = {};
  setSliders(current);
  $("opacity").value = 0.55;
  render();
  refine();
});

// -- downloads

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

for (const button of document.querySelectorAll("[data-file]")) {
  button.addEventListener("click", () =>
    trying(async () => {
      const photo = current;
      if (photo.looked) await refine();
      const response = await asked(`api/photos/${photo.number}/file/${button.dataset.file}`, { opacity: Number($("opacity").value) });
      const named = response.headers.get("Content-Disposition").split("''")[1];
      save(await response.blob(), decodeURIComponent(named));
    }),
  );
}

async function showCommand() {
  const { command } = await json(`api/photos/${current.number}/command`);
  $("command-text").textContent = command;
  $("command-box").hidden = false;
}
$("command").addEventListener("click", () => trying(showCommand));
$("copy").addEventListener("click", () =>
  trying(async () => {
    await navigator.clipboard.writeText($("command-text").textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => ($("copy").textContent = "Copy"), 1500);
  }),
);

// -- adding photos

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const files = [...$("file").files];
  $("file").value = "";
  await add(files);
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  lookAt();
});
$("look-all").addEventListener("click", lookAtAll);
$("no-background").addEventListener("change", () => ($("background").disabled = $("no-background").checked));

let inside = 0;
const holdsFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
addEventListener("dragenter", (event) => {
  if (holdsFiles(event)) $("drop").hidden = ++inside === 0;
});
addEventListener("dragleave", (event) => {
  if (holdsFiles(event)) $("drop").hidden = (inside = Math.max(0, inside - 1)) === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("drop").hidden = true;
  if (event.dataTransfer.files.length) {
    openTab("find");
    add([...event.dataTransfer.files]);
  }
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files || [])];
  if (!files.length) return;
  event.preventDefault();
  openTab("find");
  add(files.map((file) => new File([file], file.name === "image.png" ? "pasted.png" : file.name, { type: file.type })));
});

let stream = null;
$("camera").addEventListener("click", () =>
  trying(async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      throw new Error("There is no camera that this page may use.");
    }
    $("video").srcObject = stream;
    $("camera-box").showModal();
  }),
);
$("camera-box").addEventListener("close", () => {
  for (const track of stream ? stream.getTracks() : []) track.stop();
  stream = null;
});
$("camera-close").addEventListener("click", () => $("camera-box").close());
$("take").addEventListener("click", () => {
  const video = $("video"), canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  if (!video.videoWidth) return;
  canvas.getContext("2d").drawImage(video, 0, 0);
  $("camera-box").close();
  canvas.toBlob((blob) => add([new File([blob], `camera-${photos.length + 1}.png`, { type: "image/png" })]), "image/png");
});

// -- generating

const drawnView = new View($("drawn"));
let drawn = null; // what the server told, with `image`, `answer`, `chosen`, `map` of ours

$("prompt-form").addEventListener("submit", (event) => {
  event.preventDefault();
  trying(async () => {
    const body = {
      prompt: $("prompt").value, words: $("words").value, seed: Number($("draw-seed").value),
      steps: Number($("steps").value), guidance: Number($("guidance").value),
    };
    drawn = await working("draw", $("generate"), $("drawn-figure"), (tell, signal) => {
      tell(`Generating, on ${model.device}…`);
      return lines("api/drawing", body, signal, ({ step }) =>
        step ? tell(`Step ${step} of ${body.steps}, on ${model.device}…`, step, body.steps) : tell("Waiting for another visitor…"),
      );
    });
    drawn.image = await loadedImage(drawn.picture);
    drawn.chosen = new Set(drawn.words.map(({ word }) => word));
    drawn.map = null;
    drawnView.image = drawn.image;
    $("drawn-figure").hidden = false;
    listWords();
    await refineDrawn();
  });
});

function listWords() {
  $("words-box").hidden = false;
  $("word-maps").replaceChildren(
    ...drawn.words.map((entry) => {
      const canvas = mapCanvas(entry), button = element("button", { type: "button" }, canvas, entry.word);
      button.setAttribute("aria-pressed", "false");
      button.onclick = () => {
        const on = !drawn.map || drawn.map.word !== entry.word;
        drawn.map = on ? { word: entry.word, canvas } : null;
        for (const other of $("word-maps").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-pressed", String(on));
        renderDrawn();
      };
      const box = element("input", { type: "checkbox", checked: drawn.chosen.has(entry.word) });
      box.setAttribute("aria-label", `${entry.word} in the mask`);
      box.onchange = () => {
        drawn.chosen[box.checked ? "add" : "delete"](entry.word);
        refineDrawn();
      };
      return element("li", {}, button, element("label", {}, box, " in the mask"));
    }),
  );
}

const refineDrawn = latest(async () => {
  if (!drawn) return;
  const asking = drawn;
  try {
    const answer = await json("api/drawing/mask", {
      words: [...drawn.chosen], beta: Number($("beta").value), crf: $("drawn-crf").checked,
    });
    answer.bytes = bytesOf(answer.labels);
    asking.answer = answer;
    renderDrawn();
  } catch (problem) {
    complain(problem);
  }
});

function renderDrawn() {
  for (const name of ["drawn-opacity", "beta"]) {
    const value = Number($(name).value);
    document.querySelector(`label[for="${name}"] output`).textContent = name === "beta" ? value.toFixed(2) : percent(value).replace(".0", "");
  }
  const answer = drawn && drawn.answer;
  if (!answer) return;
  const opacity = Number($("drawn-opacity").value);
  drawnView.layer = drawn.map
    ? { canvas: drawn.map.canvas, alpha: Math.max(0.15, opacity), smooth: true }
    : { canvas: maskCanvas(answer, opacity) };
  drawnView.names = drawn.map ? [] : namesOf(answer);
  drawnView.draw();
  $("drawn-legend").replaceChildren(
    ...answer.classes
      .filter((each, number) => !number || drawn.chosen.has(each.name))
      .map((each) => element("span", {}, ...(each.colour ? [keyOf(each.colour)] : []), `${each.name} ${percent(each.share)}`)),
  );
  $("drawn-sliders").disabled = false;
  $("drawn-save").disabled = $("drawn-find").disabled = false;
  $("drawn").setAttribute("aria-label", `The generated picture: ${answer.classes.map((each) => `${each.name} ${percent(each.share)}`).join(", ")}`);
  $("drawn-status").textContent =
    `“${drawn.prompt}”, seed ${drawn.seed}: ${drawn.steps} steps in ${duration(drawn.seconds)} on ${drawn.device}; ` +
    `${answer.passes} passes since the start. The last mask took ${duration(answer.seconds)} from the kept attention.`;
}

$("drawn-opacity").addEventListener("input", renderDrawn);
$("beta").addEventListener("input", () => {
  renderDrawn();
  refineDrawn();
});
$("drawn-crf").addEventListener("change", refineDrawn);

function drawnBlob() {
  const canvas = element("canvas", { width: drawn.image.width, height: drawn.image.height });
  canvas.getContext("2d").drawImage(drawn.image, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
$("drawn-save").addEventListener("click", () => trying(async () => save(await drawnBlob(), `generated-${drawn.seed}.png`)));
$("drawn-find").addEventListener("click", async () => {
  const words = [...drawn.chosen].join(", "), name = `generated-${drawn.seed}.png`;
  const file = new File([await drawnBlob()], name, { type: "image/png" });
  openTab("find");
  await add([file]);
  $("classes").value = words;
  $("classes").focus();
});

// -- tabs

function openTab(name) {
  for (const each of ["find", "draw"]) {
    const on = each === name, tab = $(`tab-${each}`);
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    $(each).hidden = !on;
  }
}
for (const name of ["find", "draw"]) {
  $(`tab-${name}`).addEventListener("click", () => openTab(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = name === "find" ? "draw" : "find";
    openTab(other);
    $(`tab-${other}`).focus();
  });
}

// -- the start

const started = trying(async () => {
  const response = await fetch("api/model");
  model = await response.json();
  if (!response.ok) throw new Error(model.error);
  const before = remembered();
  session = before;
  const told = await json("api/session");
  session = told.session;
  remembered(session);
  photos = told.photos;
  $("model").textContent = `${model.model}, on ${model.device}`;
  $("noises").value = model.noises;
  $("camera").hidden = !navigator.mediaDevices;
  if (!model.crf) {
    $("crf").checked = $("crf").disabled = $("drawn-crf").checked = false;
    $("drawn-crf").disabled = true;
    $("crf").parentElement.append(" is not installed here");
    $("crf-sliders").hidden = true;
  }
  $("examples-box").hidden = !model.examples.length;
  $("examples").replaceChildren(
    ...model.examples.map((example) => {
      const image = element("img", { src: example.picture, alt: "", className: "small" });
      const button = element("button", { type: "button" }, image, example.classes.join(", "));
      button.onclick = () => addExample(example);
      return element("li", {}, button);
    }),
  );
  if (model.side <= 64) $("guidance").value = 4; // the miniature's colours are too strong at 7.5
  for (const name of ["opacity"]) output(name);
  renderDrawn();
  listPhotos();
  if (photos.length) await choose(photos[photos.length - 1]);
});
