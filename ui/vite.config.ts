import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const OUTPUT = fileURLToPath(new URL("../routers/ui_dist", import.meta.url));
const SERVER = process.env.WORKFLOW_SERVER_URL ?? "http://127.0.0.1:8000";
const API = ["/workflows", "/handlers", "/events", "/servers", "/health", "/openapi.json", "/docs", "/redoc"];

/** Writes each file a second time, compressed, for the server to send as it is. */
function precompress(): Plugin {
  return {
    name: "precompress",
    apply: "build",
    closeBundle() {
      const files = readdirSync(OUTPUT, { recursive: true, withFileTypes: true });
      for (const file of files) {
        if (!file.isFile() || file.name.endsWith(".gz")) continue;
        const path = join(file.parentPath, file.name);
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  // Relative, so that the pages work under any path.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: OUTPUT,
    emptyOutDir: true,
    target: "es2022",
    // The Content-Security-Policy allows no data: URLs and no inline scripts.
    assetsInlineLimit: 0,
    modulePreload: false,
  },
  plugins: [precompress()],
  server: { proxy: Object.fromEntries(API.map((path) => [path, SERVER])) },
});
