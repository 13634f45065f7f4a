/**
 * Draws the program's icon, an eye and the line of sight that leaves it, at every size, and writes
 * PNG, ICO and ICNS into `src-tauri/icons`. Needs nothing but Node; the same bytes every time.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { crc32, deflateSync } from "node:zlib";

const out = (name) => fileURLToPath(new URL(`../../src-tauri/icons/${name}`, import.meta.url));
const SAMPLES = 4;
const PAPER = [252, 251, 249];
const INK = [28, 27, 25];
const AMBER = [240, 140, 26];

/** Colour and cover of the icon at a point of the unit square. */
function paint(x, y) {
  const [cx, cy] = [x - 0.5, y - 0.5];
  const corner = 0.22;
  const [qx, qy] = [Math.abs(cx) - (0.46 - corner), Math.abs(cy) - (0.46 - corner)];
  const tile = Math.hypot(Math.max(qx, 0), Math.max(qy, 0)) + Math.min(Math.max(qx, qy), 0) - corner;
  if (tile > 0) return null;
  if (Math.hypot(cx, cy) < 0.095) return AMBER;
  if (Math.abs(cy) < 0.026 && cx > 0 && cx < 0.46) return AMBER;
  // The lids: two circles that meet at the corners of the eye.
  const radius = 0.41;
  const rise = 0.22;
  const lid = Math.max(Math.hypot(cx, cy - rise), Math.hypot(cx, cy + rise)) - radius;
  return Math.abs(lid) < 0.028 ? PAPER : INK;
}

function pixels(size) {
  const rows = [];
  for (let y = 0; y < size; y += 1) {
    const row = Buffer.alloc(1 + size * 4);
    for (let x = 0; x < size; x += 1) {
      const sum = [0, 0, 0, 0];
      for (let s = 0; s < SAMPLES * SAMPLES; s += 1) {
        const sx = (x + ((s % SAMPLES) + 0.5) / SAMPLES) / size;
        const sy = (y + (Math.floor(s / SAMPLES) + 0.5) / SAMPLES) / size;
        const colour = paint(sx, sy);
        if (!colour) continue;
        for (let c = 0; c < 3; c += 1) sum[c] += colour[c];
        sum[3] += 1;
      }
      const cover = sum[3];
      for (let c = 0; c < 3; c += 1) row[1 + x * 4 + c] = cover ? Math.round(sum[c] / cover) : 0;
      row[1 + x * 4 + 3] = Math.round((255 * cover) / (SAMPLES * SAMPLES));
    }
    rows.push(row);
  }
  return Buffer.concat(rows);
}

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body) >>> 0, body.length + 4);
  return out;
}

function png(size) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(size, 0);
  header.writeUInt32BE(size, 4);
  header.set([8, 6, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(pixels(size), { level: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function ico(sizes) {
  const head = Buffer.alloc(6 + 16 * sizes.length);
  head.writeUInt16LE(1, 2);
  head.writeUInt16LE(sizes.length, 4);
  let offset = head.length;
  const images = sizes.map((size, index) => {
    const image = png(size);
    const at = 6 + 16 * index;
    head.set([size % 256, size % 256, 0, 0, 1, 0, 32, 0], at);
    head.writeUInt32LE(image.length, at + 8);
    head.writeUInt32LE(offset, at + 12);
    offset += image.length;
    return image;
  });
  return Buffer.concat([head, ...images]);
}

function icns(kinds) {
  const parts = kinds.map(([type, size]) => {
    const image = png(size);
    const head = Buffer.alloc(8);
    head.write(type, 0, "ascii");
    head.writeUInt32BE(image.length + 8, 4);
    return Buffer.concat([head, image]);
  });
  const head = Buffer.alloc(8);
  head.write("icns", 0, "ascii");
  head.writeUInt32BE(8 + parts.reduce((sum, part) => sum + part.length, 0), 4);
  return Buffer.concat([head, ...parts]);
}

writeFileSync(out("32x32.png"), png(32));
writeFileSync(out("128x128.png"), png(128));
writeFileSync(out("icon.png"), png(512));
writeFileSync(out("icon.ico"), ico([16, 32, 48, 256]));
writeFileSync(out("icon.icns"), icns([["ic07", 128], ["ic08", 256], ["ic09", 512]]));
