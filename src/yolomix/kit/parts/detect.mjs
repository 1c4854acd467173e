// From pixels to objects, number for number as detect.py does it. `kit` is the content of kit.json.

/** The nearest whole number, of two that are as near the even one, as Python rounds. */
function rounded(v) {
  const near = Math.round(v);
  return near - v === 0.5 && near % 2 ? near - 1 : near;
}

/** The two of `have` pixels that each of `size` is mixed of, and their parts in 2048ths: what OpenCV takes. */
function mixed(have, size) {
  const [first, second, part, rest] = [0, 1, 2, 3].map(() => new Int32Array(size));
  for (let i = 0; i < size; i++) {
    const at = Math.fround((i + 0.5) * (have / size) - 0.5);
    const low = Math.floor(at);
    part[i] = rounded(Math.fround(at - low) * 2048);
    rest[i] = 2048 - part[i];
    first[i] = Math.min(Math.max(low, 0), have - 1);
    second[i] = Math.min(Math.max(low + 1, 0), have - 1);
  }
  return { first, second, part, rest };
}

/** An image of another size, (height, width, 3), bit by bit as from OpenCV. A canvas smooths, and scores move. */
export function resized(rgba, given, size) {
  const [down, across] = [mixed(given[0], size[0]), mixed(given[1], size[1])];
  const rows = new Int32Array(given[0] * size[1] * 3);
  for (let y = 0, to = 0; y < given[0]; y++)
    for (let x = 0; x < size[1]; x++)
      for (let c = 0; c < 3; c++, to++) {
        const [one, two] = [across.first[x], across.second[x]].map((at) => rgba[4 * (y * given[1] + at) + c]);
        rows[to] = (one * across.rest[x] + two * across.part[x]) >> 4;
      }
  const pixels = new Uint8Array(size[0] * size[1] * 3);
  const row = size[1] * 3;
  for (let y = 0, to = 0; y < size[0]; y++)
    for (let x = 0; x < row; x++, to++) {
      const [one, two] = [rows[down.first[y] * row + x], rows[down.second[y] * row + x]];
      pixels[to] = (((one * down.rest[y]) >> 16) + ((two * down.part[y]) >> 16) + 2) >> 2;
    }
  return pixels;
}

/**
 * An image on grey, as the model sees it.
 *
 * `given` is its [height, width]. Returns the numbers, (3, H, W), their `sides` [H, W], and the `corner` and `scale`
 * of the image in there, [down, across] each.
 */
export function letterboxed(rgba, given, kit) {
  const ratio = Math.min(kit.imgsz[0] / given[0], kit.imgsz[1] / given[1]);
  const size = given.map((side) => Math.max(rounded(side * ratio), 1));
  const sides = size.map((side, i) => side + ((kit.imgsz[i] - side) % kit.multiple[i]));
  const corner = size.map((side, i) => rounded((sides[i] - side) / 2 - 0.1));
  const data = new Float32Array(3 * sides[0] * sides[1]).fill(kit.grey / 255);
  const pixels = resized(rgba, given, size);
  for (let y = 0, from = 0; y < size[0]; y++)
    for (let x = 0; x < size[1]; x++)
      for (let c = 0; c < 3; c++, from++)
        data[(c * sides[0] + corner[0] + y) * sides[1] + corner[1] + x] = pixels[from] / 255;
  return { data, sides, corner, scale: size.map((side, i) => side / given[i]) };
}

/** What a model gives as rows: corners, score and class. `values` are (4 + classes, N), or (N, 6) as they are. */
function rows(values, dims, kit) {
  const found = [];
  if (kit.head !== "grid") {
    for (let i = 0; i < dims[1]; i++) found.push(Array.from(values.subarray(6 * i, 6 * i + 6)));
    return found;
  }
  const [, numbers, n] = dims;
  for (let i = 0; i < n; i++) {
    let best = 4;
    for (let k = 5; k < numbers; k++) if (values[k * n + i] > values[best * n + i]) best = k;
    const [x, y, w, h] = [0, 1, 2, 3].map((k) => values[k * n + i]);
    found.push([x - w / 2, y - h / 2, x + w / 2, y + h / 2, values[best * n + i], best - 4]);
  }
  return found;
}

/** How much two boxes overlap, as a part of what both cover. */
function overlap(a, b) {
  const area = (x1, y1, x2, y2) => Math.max(x2 - x1, 0) * Math.max(y2 - y1, 0);
  const shared = area(Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3]));
  return shared / (area(...a.slice(0, 4)) + area(...b.slice(0, 4)) - shared);
}

/** The objects in an image: label, class, score and box, its corners [x, y, x, y] in pixels of the image. */
export async function detect(ort, session, rgba, given, kit) {
  const { data, sides, corner, scale } = letterboxed(rgba, given, kit);
  const numbers = kit.input === "float16" ? Float16Array.from(data) : data;
  const x = new ort.Tensor(kit.input, numbers, [1, 3, ...sides]);
  const y = (await session.run({ [session.inputNames[0]]: x }))[session.outputNames[0]];
  const candidates = rows(y.data, y.dims, kit).filter((row) => row[4] > kit.conf);
  const kept = [];
  for (const row of candidates.sort((a, b) => b[4] - a[4])) {
    if (kept.length === kit.max_det) break;
    if (!kept.some((better) => better[5] === row[5] && overlap(better, row) > kit.iou)) kept.push(row);
  }
  return kept.map((row) => ({
    label: kit.names[row[5]],
    class: row[5],
    score: row[4],
    box: [0, 1, 2, 3].map((i) => {
      const axis = 1 - (i % 2);
      return Math.min(Math.max((row[i] - corner[axis]) / scale[axis], 0), given[axis]);
    }),
  }));
}
