/** JSON Schema, as pydantic writes it, to the shape of a form. */

import type { Json, JsonObject, JsonSchema } from "../api/types";

export type Path = (string | number)[];
/** A value while it is edited: undefined is a field that is left out. */
export type Draft = Json | undefined;

export interface Field {
  name: string;
  schema: JsonSchema;
  required: boolean;
}

export type Shape =
  | { kind: "string"; long: boolean; format: string | undefined }
  | { kind: "number"; integer: boolean }
  | { kind: "boolean" }
  | { kind: "null" }
  | { kind: "choice"; options: Json[] }
  | { kind: "object"; fields: Field[]; extra: JsonSchema | boolean }
  | { kind: "list"; items: JsonSchema }
  | { kind: "union"; variants: JsonSchema[] }
  | { kind: "any" };

export interface Described {
  shape: Shape;
  nullable: boolean;
  /** The schema with its references followed. */
  schema: JsonSchema;
}

const LONG_STRING = 120;
const MAX_DEPTH = 6;

/** Follows references and lone `allOf`s; what stands beside a reference wins. */
export function resolve(schema: JsonSchema, root: JsonSchema): JsonSchema {
  let resolved = schema;
  for (let hops = 0; hops < 20; hops += 1) {
    const { $ref, allOf, ...beside } = resolved;
    if ($ref) {
      const name = decodeURIComponent($ref.replace(/^#\/\$defs\//, "")).replaceAll("~1", "/");
      const target = root.$defs?.[name];
      if (!target) return beside;
      resolved = { ...target, ...beside };
    } else if (allOf?.length) {
      const merged = allOf.map((part) => resolve(part, root));
      resolved = Object.assign({}, ...merged, beside) as JsonSchema;
    } else {
      return resolved;
    }
  }
  return {};
}

export function describe(given: JsonSchema, root: JsonSchema): Described {
  const schema = resolve(given, root);
  const variants = schema.anyOf ?? schema.oneOf;
  if (variants) {
    const others = variants.filter((variant) => resolve(variant, root).type !== "null");
    const nullable = others.length < variants.length;
    const [only] = others;
    if (others.length === 1 && only) {
      const { anyOf: _any, oneOf: _one, ...beside } = schema;
      return { ...describe({ ...resolve(only, root), ...beside }, root), nullable };
    }
    return { shape: { kind: "union", variants: others }, nullable, schema };
  }
  if (Array.isArray(schema.type)) {
    const types = schema.type.filter((type) => type !== "null");
    const nullable = types.length < schema.type.length;
    const [only] = types;
    if (types.length === 1 && only) return { ...describe({ ...schema, type: only }, root), nullable };
    const each = types.map((type) => ({ ...schema, type, title: type }));
    return { shape: { kind: "union", variants: each }, nullable, schema };
  }
  return { shape: shapeOf(schema), nullable: false, schema };
}

function shapeOf(schema: JsonSchema): Shape {
  if (schema.enum) return { kind: "choice", options: schema.enum };
  if (schema.const !== undefined) return { kind: "choice", options: [schema.const] };
  switch (schema.type) {
    case "string":
      return { kind: "string", format: schema.format, long: isLong(schema) };
    case "integer":
    case "number":
      return { kind: "number", integer: schema.type === "integer" };
    case "boolean":
      return { kind: "boolean" };
    case "null":
      return { kind: "null" };
    case "array":
      return schema.prefixItems ? { kind: "any" } : { kind: "list", items: schema.items ?? {} };
    case "object":
      return { kind: "object", fields: fieldsOf(schema), extra: schema.additionalProperties ?? false };
    default:
      return schema.properties
        ? { kind: "object", fields: fieldsOf(schema), extra: schema.additionalProperties ?? false }
        : { kind: "any" };
  }
}

function isLong(schema: JsonSchema): boolean {
  const samples = [schema.default, ...(schema.examples ?? [])];
  return (
    (schema.maxLength ?? 0) > LONG_STRING ||
    samples.some((sample) => typeof sample === "string" && (sample.length > LONG_STRING || sample.includes("\n")))
  );
}

function fieldsOf(schema: JsonSchema): Field[] {
  const required = new Set(schema.required);
  const fields = Object.entries(schema.properties ?? {}).map(([name, property]) => ({
    name,
    schema: property,
    required: required.has(name),
  }));
  return [...fields.filter((field) => field.required), ...fields.filter((field) => !field.required)];
}

/** What a form shows at first: defaults, and empty values where one is required. */
export function initialDraft(given: JsonSchema, root: JsonSchema, required = true, depth = 0): Draft {
  const { shape, nullable, schema } = describe(given, root);
  if (schema.default !== undefined) return schema.default;
  if (!required) return undefined;
  if (nullable) return null;
  switch (shape.kind) {
    case "choice":
      return shape.options.length === 1 ? shape.options[0] : undefined;
    case "null":
      return null;
    case "list":
      return [];
    case "object":
      return depth > MAX_DEPTH ? {} : objectDraft(shape.fields, root, depth);
    case "union":
      return shape.variants[0] ? initialDraft(shape.variants[0], root, true, depth + 1) : undefined;
    default:
      return undefined;
  }
}

function objectDraft(fields: Field[], root: JsonSchema, depth: number): JsonObject {
  return clean(
    Object.fromEntries(
      fields.map((field) => [field.name, initialDraft(field.schema, root, field.required, depth + 1)]),
    ),
  );
}

/** The first example of each field, over a draft; null where there are no examples. */
export function exampleDraft(schema: JsonSchema): JsonObject | null {
  const found = Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const [example] = property.examples ?? [];
    return example === undefined ? [] : [[name, example] as const];
  });
  const whole = schema.examples?.[0];
  if (isObject(whole)) return whole;
  return found.length ? Object.fromEntries(found) : null;
}

/** An object without the fields that are left out. */
export function clean(draft: Record<string, Draft>): JsonObject {
  return Object.fromEntries(Object.entries(draft).filter(([, value]) => value !== undefined)) as JsonObject;
}

export function isObject(value: Draft): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function titleOf(schema: JsonSchema, fallback: string): string {
  return schema.title ?? (typeof schema.type === "string" ? schema.type : fallback);
}

/** The first paragraph of a description. */
export function summaryOf(description: string | null | undefined): string {
  return (description ?? "").split(/\n\s*\n/)[0]?.replace(/\s+/g, " ").trim() ?? "";
}
