// As peer_packages.py, which says what the arguments are, for packages of Node.
//
//   NODE_PATH=DIR/node_modules node benchmarks/peer_packages.cjs PACKAGE CROP SIDE FACES ESTIMATES

const fs = require('fs');
const path = require('path');

const folder = (name) => path.dirname(require.resolve(`${name}/package.json`));

// Loads face-api. Returns what estimates one face; `look` says whether to look for it.
async function faceApi() {
  const tf = require('@tensorflow/tfjs');
  const wasm = require('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(path.join(folder('@tensorflow/tfjs-backend-wasm'), 'dist', path.sep));
  await tf.setBackend('wasm');
  await tf.ready();
  const api = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
  const model = path.join(folder('@vladmandic/face-api'), 'model');
  await api.nets.ageGenderNet.loadFromDisk(model);
  await api.nets.ssdMobilenetv1.loadFromDisk(model);
  return async (image, border, look) => {
    const edge = [border, border];
    const padded = tf.tidy(() => tf.tensor3d(...image, 'int32').pad([edge, edge, [0, 0]]));
    const [height, width] = padded.shape;
    const off = ({ detection: { box } }) =>
      Math.abs(box.x + box.width / 2 - width / 2) + Math.abs(box.y + box.height / 2 - height / 2);
    const faces = look
      ? await api.detectAllFaces(padded, new api.SsdMobilenetv1Options()).withAgeAndGender()
      : [await api.nets.ageGenderNet.predictAgeAndGender(padded)];
    padded.dispose();
    if (!faces.length) return null;
    const face = look ? faces.reduce((a, b) => (off(b) < off(a) ? b : a)) : faces[0];
    const female = face.gender === 'female' ? face.genderProbability : 1 - face.genderProbability;
    return [face.age, female];
  };
}

const PACKAGES = { face_api: faceApi };

async function main() {
  const [name, crop, sideText, faces, estimates] = process.argv.slice(2);
  const [way, border] = crop.split('=');
  const side = Number(sideText);
  const size = side * side * 3;
  const estimate = await PACKAGES[name]();
  const images = new Uint8Array(fs.readFileSync(faces));
  const rows = [];
  for (let start = 0; start < images.length; start += size) {
    const image = [images.subarray(start, start + size), [side, side, 3]];
    const found = way === 'border' ? await estimate(image, Number(border), true) : null;
    rows.push(...(found || (await estimate(image, 0, false))), found ? 1 : 0);
  }
  fs.writeFileSync(estimates, new Uint8Array(new Float64Array(rows).buffer));
}

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
