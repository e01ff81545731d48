/** Faults of a draft, before it is sent; the server has the last word. */

import type { Fault, Json, JsonSchema } from "../api/types";
import { describe, isObject, type Described, type Draft, type Path } from "./schema";

export interface FieldFault {
  path: Path;
  message: string;
}

export function validate(draft: Draft, given: JsonSchema, root: JsonSchema, path: Path = []): FieldFault[] {
  const described = describe(given, root);
  const fault = (message: string): FieldFault[] => [{ path, message }];
  if (draft === null && (described.nullable || described.shape.kind === "null")) return [];
  if (draft === undefined) return fault("A value is required.");
  const { shape, schema } = described;
  switch (shape.kind) {
    case "string":
      return typeof draft === "string" ? checkString(draft, schema).flatMap(fault) : fault("Give a text.");
    case "number":
      return checkNumber(draft, described).flatMap(fault);
    case "boolean":
      return typeof draft === "boolean" ? [] : fault("Choose yes or no.");
    case "null":
      return fault("Only null is possible here.");
    case "choice": {
      const chosen = JSON.stringify(draft);
      return shape.options.some((option) => JSON.stringify(option) === chosen) ? [] : fault("Choose one of the values.");
    }
    case "list":
      if (!Array.isArray(draft)) return fault("Give a list.");
      return [
        ...checkLength(draft.length, schema).flatMap(fault),
        ...draft.flatMap((item, index) => validate(item, shape.items, root, [...path, index])),
      ];
    case "object":
      return isObject(draft) ? checkObject(draft, described, root, path) : fault("Give an object.");
    case "union":
      return shape.variants.some((variant) => validate(draft, variant, root).length === 0)
        ? []
        : closestFaults(draft, shape.variants, root, path);
    case "any":
      return [];
  }
}

/** The faults of the variant that fits best. */
function closestFaults(draft: Json, variants: JsonSchema[], root: JsonSchema, path: Path): FieldFault[] {
  const all = variants.map((variant) => validate(draft, variant, root, path));
  const deeper = all.filter((faults) => faults.every((fault) => fault.path.length > path.length));
  const [first] = (deeper.length ? deeper : all).sort((one, other) => one.length - other.length);
  return first ?? [{ path, message: "None of the possible kinds fits." }];
}

function checkObject(draft: Record<string, Draft>, { shape }: Described, root: JsonSchema, path: Path): FieldFault[] {
  if (shape.kind !== "object") return [];
  const known = new Set(shape.fields.map((field) => field.name));
  const extra = shape.extra;
  return [
    ...shape.fields.flatMap((field) => {
      const value = draft[field.name];
      if (value === undefined && !field.required) return [];
      return validate(value, field.schema, root, [...path, field.name]);
    }),
    ...Object.entries(draft).flatMap(([name, value]) =>
      known.has(name) || typeof extra === "boolean" ? [] : validate(value, extra, root, [...path, name]),
    ),
  ];
}

function checkString(text: string, schema: JsonSchema): string[] {
  const length = [...text].length;
  if (schema.minLength !== undefined && length < schema.minLength) {
    return [schema.minLength === 1 ? "It may not be empty." : `At least ${schema.minLength} characters.`];
  }
  if (schema.maxLength !== undefined && length > schema.maxLength) {
    return [`At most ${schema.maxLength} characters; there are ${length}.`];
  }
  return schema.pattern !== undefined && !matches(text, schema.pattern) ? [`It must match ${schema.pattern}.`] : [];
}

function matches(text: string, pattern: string): boolean {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return true; // written for another engine: the server says
  }
}

function checkNumber(draft: Json, { shape, schema }: Described): string[] {
  const integer = shape.kind === "number" && shape.integer;
  if (typeof draft !== "number" || !Number.isFinite(draft)) return [integer ? "Give a whole number." : "Give a number."];
  if (integer && !Number.isInteger(draft)) return ["Give a whole number."];
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  if (minimum !== undefined && draft < minimum) return [`At least ${minimum}.`];
  if (maximum !== undefined && draft > maximum) return [`At most ${maximum}.`];
  if (exclusiveMinimum !== undefined && draft <= exclusiveMinimum) return [`More than ${exclusiveMinimum}.`];
  if (exclusiveMaximum !== undefined && draft >= exclusiveMaximum) return [`Less than ${exclusiveMaximum}.`];
  return [];
}

function checkLength(length: number, { minItems, maxItems }: JsonSchema): string[] {
  if (minItems !== undefined && length < minItems) return [`At least ${minItems} item${minItems === 1 ? "" : "s"}.`];
  if (maxItems !== undefined && length > maxItems) return [`At most ${maxItems} items.`];
  return [];
}

/** The server's faults at the fields: its path, without the part that leads to the event. */
export function placeFaults(faults: Fault[], draft: Draft): FieldFault[] {
  return faults.map((fault) => {
    const loc = fault.loc.slice(fault.loc[0] === "body" ? 1 : 0);
    const inside = ["start_event", "event", "kwargs"].includes(String(loc[0])) ? loc.slice(1) : loc;
    const skip = inside[0] === "value" && !(isObject(draft) && "value" in draft) ? 1 : 0;
    return { path: existing(inside.slice(skip), draft), message: fault.msg.replace(/^(Value|Assertion) error, /, "") };
  });
}

/** As much of a path as leads through the draft, and one name more; tags of unions are left out. */
function existing(path: Path, draft: Draft): Path {
  const known: Path = [];
  let value: Draft = draft;
  for (const key of path) {
    if (Array.isArray(value) && typeof key === "number") {
      value = value[key];
    } else if (isObject(value) && (key in value || known.length === 0)) {
      value = value[key];
    } else if (isObject(value) && path.indexOf(key) === path.length - 1) {
      value = undefined;
    } else {
      continue;
    }
    known.push(key);
  }
  return known;
}

export function keyOf(path: Path): string {
  return path.map((part) => encodeURIComponent(part)).join("/");
}
