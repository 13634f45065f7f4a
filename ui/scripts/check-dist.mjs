/**
 * Says whether the committed page is what the sources build: builds beside it and compares bytes.
 * Exit code 1 and the names of the stale files when not.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Path inside `folder` -> digest of the file. */
function digests(folder) {
  const found = new Map();
  const walk = (at) => {
    for (const name of readdirSync(at)) {
      const path = join(at, name);
      if (statSync(path).isDirectory()) walk(path);
      else {
        const digest = createHash("sha256").update(readFileSync(path)).digest("hex");
        found.set(relative(folder, path), digest);
      }
    }
  };
  walk(folder);
  return found;
}

const fresh = mkdtempSync(join(tmpdir(), "sightline-dist-"));
try {
  await build({ root, logLevel: "error", build: { outDir: fresh, emptyOutDir: true } });
  const [want, have] = [digests(fresh), digests(join(root, "dist"))];
  const stale = [...new Set([...want.keys(), ...have.keys()])].filter(
    (path) => want.get(path) !== have.get(path),
  );
  if (stale.length > 0) {
    console.error(`ui/dist is stale (${stale.join(", ")}): run \`npm run build\` in ui/`);
    process.exitCode = 1;
  } else console.log("ui/dist is fresh");
} finally {
  rmSync(fresh, { recursive: true, force: true });
}
