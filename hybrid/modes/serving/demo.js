'use strict';

const MOST_BYTES = Number('{{most_bytes}}');
const byId = (id) => document.getElementById(id);
const COLOUR = '#ffbe28';

// Tabs.
const tabs = [...document.querySelectorAll('[role=tab]')];
function select(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute('aria-selected', chosen);
    other.tabIndex = chosen ? 0 : -1;
    byId(other.getAttribute('aria-controls')).hidden = !chosen;
  }
  if (tab.id !== 'tab-webcam') stopWebcam();
}
for (const [place, tab] of tabs.entries()) {
  tab.addEventListener('click', () => select(tab));
  tab.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(place + step + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
}

function say(id, text, problem = false) {
  byId(id).textContent = text;
  byId(id).classList.toggle('problem', problem);
}

function tooLarge(file) {
  if (file.size <= MOST_BYTES) return '';
  const size = Math.floor(file.size / 2 ** 20).toLocaleString('en');
  return `The file has ${size} MB, more than the ${MOST_BYTES / 2 ** 20} MB that are read.`;
}

// Sends a file; throws an Error with the sentence of the answer.
async function send(path, file) {
  const problem = tooLarge(file);
  if (problem) throw new Error(problem);
  let answer;
  try {
    answer = await fetch(path, { method: 'POST', body: file });
  } catch {
    throw new Error('The program does not answer: was it stopped?');
  }
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Error(error || `The program answered with status ${answer.status}.`);
}

const known = (value) => value !== null && value !== undefined;
const years = (value) => Math.round(value).toString();

function ageOf(face) {
  if (!known(face.age)) return '';
  const range = known(face.age_low) ? ` (${years(face.age_low)} to ${years(face.age_high)})` : '';
  return `${years(face.age)}${range}`;
}

function genderOf(face) {
  if (!face.gender) return '';
  const female = face.female_probability;
  const share = face.gender === 'male' ? 1 - female : female;
  const percent = share > 0.99 ? 'over 99 %' : `${Math.round(100 * share)} %`;
  return face.gender === 'unsure' ? `unsure (female ${percent})` : `${face.gender} ${percent}`;
}

// Draws a picture and the boxes of its faces, with letters that can be read at the page's size.
function draw(canvas, picture, answer) {
  canvas.hidden = false;
  const ratio = window.devicePixelRatio || 1;
  const room = canvas.parentElement.clientWidth * ratio;
  const tallest = 0.9 * window.innerHeight * ratio;
  const scale = Math.min(room / answer.width, Math.max(tallest, 300) / answer.height, 3 * ratio);
  canvas.width = Math.max(Math.round(answer.width * scale), 1);
  canvas.height = Math.max(Math.round(answer.height * scale), 1);
  canvas.style.width = `${canvas.width / ratio}px`;
  const pen = canvas.getContext('2d');
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  pen.lineWidth = 2.5 * ratio;
  pen.font = `${14 * ratio}px system-ui, sans-serif`;
  pen.textBaseline = 'top';
  const pad = 4 * ratio;
  const labelHeight = 14 * ratio + 2 * pad;
  const boxes = answer.faces.map((face) =>
    [face.x, face.y, face.width, face.height].map((value) => value * scale));
  // Above each box, or inside of it where there is no room.
  const place = (texts) => texts.map((text, k) => {
    const [x, y] = boxes[k];
    const width = pen.measureText(text).width + 2 * pad;
    const left = Math.max(Math.min(x, canvas.width - width), 0);
    return { text, left, width, top: y >= labelHeight ? y - labelHeight : y };
  });
  const apart = (one, other) =>
    one.left + one.width < other.left || other.left + other.width < one.left ||
    Math.abs(one.top - other.top) > labelHeight;
  const number = (k, text) => (answer.faces.length > 1 ? `${k + 1}: ${text}` : text);
  let labels = place(answer.faces.map((face, k) =>
    number(k, [ageOf(face), genderOf(face)].filter(Boolean).join(', '))));
  if (labels.some((one, k) => labels.slice(k + 1).some((other) => !apart(one, other)))) {
    labels = place(answer.faces.map((face, k) => number(k, known(face.age) ? years(face.age) : '')));
  }
  labels.forEach(({ text, left, width, top }, k) => {
    pen.strokeStyle = COLOUR;
    pen.strokeRect(...boxes[k]);
    pen.fillStyle = COLOUR;
    pen.fillRect(left, top, width, labelHeight);
    pen.fillStyle = '#000000';
    pen.fillText(text, left + pad, top + pad);
  });
}

// A table of the faces, from left to right.
function list(place, faces) {
  place.replaceChildren();
  if (!faces.length) return;
  const columns = [
    ['face', (face, k) => k + 1],
    ['age', ageOf],
    ['gender', genderOf],
    ['unlike the training', (face) => face.unusual || ''],
    ['problem', (face) => face.error || ''],
  ].filter(([, text]) => faces.some((face, k) => text(face, k) !== ''));
  const table = document.createElement('table');
  const row = (cells, tag) => {
    const line = table.insertRow();
    for (const cell of cells) {
      const element = document.createElement(tag);
      element.textContent = cell;
      line.append(element);
    }
  };
  row(columns.map(([name]) => name), 'th');
  faces.forEach((face, k) => row(columns.map(([, text]) => text(face, k)), 'td'));
  place.append(table);
}

function load(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error('The browser cannot show the picture.'));
    image.src = source;
  });
}

function count(faces) {
  return faces.length === 1 ? 'One face.' : `${faces.length} faces.`;
}

// The photo: the last one that was chosen counts, however long an earlier one takes.
let latest = 0;
async function showPhoto(file) {
  const number = ++latest;
  byId('photo-canvas').hidden = true;
  list(byId('photo-faces'), []);
  say('photo-message', 'Looking for faces ...');
  try {
    const answer = await (await send('predict?preview=1', file)).json();
    const picture = await load(answer.preview);
    if (number !== latest) return;
    draw(byId('photo-canvas'), picture, answer);
    list(byId('photo-faces'), answer.faces);
    say('photo-message', answer.message || count(answer.faces), !answer.faces.length);
  } catch (error) {
    if (number === latest) say('photo-message', error.message, true);
  }
}

function takeFiles(drop, input, use) {
  input.addEventListener('change', () => {
    if (input.files.length) use(input.files[0]);
    input.value = '';
  });
  for (const name of ['dragenter', 'dragover']) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add('over');
    });
  }
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    if (event.dataTransfer.files.length) use(event.dataTransfer.files[0]);
  });
}
// A file that misses its place would otherwise replace the page.
for (const name of ['dragover', 'drop']) window.addEventListener(name, (e) => e.preventDefault());
takeFiles(byId('drop'), byId('file'), showPhoto);

// The webcam: a frame is sent when the answer about the one before has come.
let stream = null;
let asked = 0;
function stopWebcam() {
  asked++;
  if (stream) for (const track of stream.getTracks()) track.stop();
  stream = null;
  byId('webcam-button').textContent = 'Start the webcam';
}
async function startWebcam() {
  say('webcam-message', 'Waiting for the webcam ...');
  const number = ++asked;
  let own;
  try {
    own = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
  } catch (error) {
    say('webcam-message', `There is no webcam to be had: ${error.message}.`, true);
    return;
  }
  if (number !== asked) { // The tab was left, or the button pressed again, before it was allowed.
    for (const track of own.getTracks()) track.stop();
    if (!stream) say('webcam-message', '');
    return;
  }
  stream = own;
  byId('webcam-button').textContent = 'Stop the webcam';
  const video = byId('video');
  video.srcObject = own;
  await video.play();
  const frame = document.createElement('canvas');
  while (stream === own) {
    frame.width = video.videoWidth;
    frame.height = video.videoHeight;
    frame.getContext('2d').drawImage(video, 0, 0);
    try {
      const blob = await new Promise((resolve) => frame.toBlob(resolve, 'image/jpeg', 0.9));
      const answer = await (await send('predict', blob)).json();
      if (stream !== own) break;
      draw(byId('webcam-canvas'), frame, answer);
      list(byId('webcam-faces'), answer.faces);
      say('webcam-message', answer.message || count(answer.faces));
    } catch (error) {
      say('webcam-message', error.message, true);
      if (stream === own) stopWebcam();
    }
  }
}
byId('webcam-button').addEventListener('click', () => {
  if (!stream) return startWebcam();
  stopWebcam();
  return say('webcam-message', '');
});

// The zip: the answer comes line by line.
let zipUrl = '';
async function showZip(file) {
  const link = byId('zip-link');
  link.hidden = true;
  if (zipUrl) URL.revokeObjectURL(zipUrl);
  say('zip-message', 'Reading the zip ...');
  try {
    const answer = await send('predict_zip', file);
    const reader = answer.body.getReader();
    const parts = [];
    let lines = -1; // The head is no face.
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      for (const byte of value) lines += byte === 10;
      say('zip-message', `${Math.max(lines, 0)} lines ...`);
    }
    zipUrl = URL.createObjectURL(new Blob(parts, { type: 'text/csv' }));
    link.href = zipUrl;
    link.hidden = false;
    say('zip-message', `${lines} ${lines === 1 ? 'line' : 'lines'}, one for each face, or for a photo without one.`);
  } catch (error) {
    say('zip-message', error instanceof TypeError ? 'The answer ended early.' : error.message, true);
  }
}
takeFiles(byId('zip-drop'), byId('zip-file'), showZip);
