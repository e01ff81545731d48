/** What this browser remembers: the colours, and the inputs of runs that it started. */

import type { Json, JsonObject } from "./api/types";
import { isObject } from "./model/schema";

const INPUTS = "workflow-ui:inputs";
const THEME = "workflow-ui:theme";
const KEPT_INPUTS = 50;
const MAX_INPUT = 20_000;

export type Theme = "light" | "dark" | "auto";

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage is off, or full
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // The same: the page works without a memory.
  }
}

export function readTheme(): Theme {
  const theme = read(THEME);
  return theme === "light" || theme === "dark" ? theme : "auto";
}

export function applyTheme(theme: Theme): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  write(THEME, theme);
}

function readInputs(): [string, JsonObject][] {
  try {
    const inputs = JSON.parse(read(INPUTS) ?? "[]") as Json;
    return Array.isArray(inputs) ? (inputs as unknown as [string, JsonObject][]) : [];
  } catch {
    return [];
  }
}

export function rememberInput(runId: string, input: JsonObject): void {
  if (JSON.stringify(input).length > MAX_INPUT) return;
  write(INPUTS, JSON.stringify([[runId, input], ...readInputs()].slice(0, KEPT_INPUTS)));
}

export function recallInput(runId: string): JsonObject | null {
  const input = readInputs().find(([id]) => id === runId)?.[1];
  return isObject(input) ? input : null;
}
