import { describe as suite, expect, it } from "vitest";
import type { JsonSchema } from "../src/api/types";
import { describe, exampleDraft, initialDraft, resolve, summaryOf } from "../src/model/schema";
import { placeFaults, validate } from "../src/model/validate";

const ORDER: JsonSchema = {
  $defs: {
    Address: {
      type: "object",
      title: "Address",
      properties: { street: { type: "string", minLength: 1 }, zip: { type: "string", pattern: "^\\d{4}$" } },
      required: ["street"],
    },
    Colour: { type: "string", enum: ["red", "green"] },
    Tree: {
      type: "object",
      properties: { children: { type: "array", items: { $ref: "#/$defs/Tree" } } },
      required: ["children"],
    },
    Loop: { type: "object", properties: { next: { $ref: "#/$defs/Loop" } }, required: ["next"] },
  },
  type: "object",
  properties: {
    note: { anyOf: [{ type: "string", maxLength: 5 }, { type: "null" }], default: null },
    count: { type: "integer", minimum: 1, maximum: 9, default: 3 },
    to: { $ref: "#/$defs/Address" },
    colour: { $ref: "#/$defs/Colour", examples: ["green"] },
    tags: { type: "array", items: { type: "string" }, maxItems: 2 },
    either: { anyOf: [{ type: "integer" }, { type: "boolean" }] },
    tree: { $ref: "#/$defs/Tree" },
    limits: { type: "object", additionalProperties: { type: "number" } },
  },
  required: ["to", "colour", "tags", "tree"],
};
const property = (name: string): JsonSchema => ORDER.properties?.[name] ?? {};
const faults = (name: string, value: unknown) =>
  validate(value as never, property(name), ORDER, [name]).map((fault) => `${fault.path.join(".")}: ${fault.message}`);

suite("describing", () => {
  it("sees that null is possible", () => {
    expect(describe(property("note"), ORDER)).toMatchObject({ nullable: true, shape: { kind: "string" } });
  });

  it("follows references, and keeps what stands beside them", () => {
    expect(resolve(property("colour"), ORDER)).toMatchObject({ enum: ["red", "green"], examples: ["green"] });
  });

  it("shows required fields first", () => {
    const { shape } = describe(ORDER, ORDER);
    const names = shape.kind === "object" ? shape.fields.map((field) => field.name) : [];
    expect(names).toEqual(["to", "colour", "tags", "tree", "note", "count", "either", "limits"]);
  });

  it("keeps a union's other variants", () => {
    expect(describe(property("either"), ORDER).shape).toMatchObject({ kind: "union", variants: [{ type: "integer" }, { type: "boolean" }] });
  });

  it("takes a schema of nothing for anything", () => {
    expect(describe({}, {}).shape).toEqual({ kind: "any" });
  });
});

suite("the first draft", () => {
  it("has the defaults, and empty values where one is required", () => {
    expect(initialDraft(ORDER, ORDER)).toEqual({ note: null, count: 3, to: {}, tags: [], tree: { children: [] } });
  });

  it("ends where a required field holds itself", () => {
    expect(JSON.stringify(initialDraft({ $ref: "#/$defs/Loop" }, ORDER)).length).toBeLessThan(200);
  });

  it("can be filled with examples", () => {
    const schema = { properties: { name: { type: "string", examples: ["Ada"] }, age: { type: "integer" } } };
    expect([exampleDraft(schema), exampleDraft({ properties: {} })]).toEqual([{ name: "Ada" }, null]);
  });
});

suite("validating", () => {
  it.each([
    ["count", 0, ["count: At least 1."]],
    ["count", 1.5, ["count: Give a whole number."]],
    ["count", "x", ["count: Give a whole number."]],
    ["count", 9, []],
    ["note", null, []],
    ["note", "123456", ["note: At most 5 characters; there are 6."]],
    ["to", {}, ["to.street: A value is required."]],
    ["to", { street: "", zip: "12" }, ["to.street: It may not be empty.", "to.zip: It must match ^\\d{4}$."]],
    ["colour", "blue", ["colour: Choose one of the values."]],
    ["tags", ["a", 1, "c"], ["tags: At most 2 items.", "tags.1: Give a text."]],
    ["either", true, []],
    ["either", "x", ["either: Give a whole number."]],
    ["limits", { cpu: 1, memory: "much" }, ["limits.memory: Give a number."]],
    ["tree", { children: [{ children: [{}] }] }, ["tree.children.0.children.0.children: A value is required."]],
  ])("finds the faults of %s = %j", (name, value, expected) => {
    expect(faults(name, value)).toEqual(expected);
  });
});

suite("the server's faults", () => {
  const fault = (...loc: (string | number)[]) => ({ loc, msg: "no", type: "t" });
  it.each([
    [["body", "start_event", "name"], {}, ["name"]],
    [["body", "event", "value", "approved"], { approved: 1 }, ["approved"]],
    [["body", "start_event", "to", "street"], { to: {} }, ["to", "street"]],
    [["body", "start_event", "either", "int"], { either: "x" }, ["either"]],
    [["body", "start_event", "tags", 1], { tags: ["a", 2] }, ["tags", 1]],
    [["body", "handler_id"], {}, ["handler_id"]],
  ])("stand at their fields: %j", (loc, draft, path) => {
    expect(placeFaults([fault(...loc)], draft as never)).toEqual([{ path, message: "no" }]);
  });
});

it("a summary is the first paragraph on one line", () => {
  expect(summaryOf("One\ntwo.\n\nExamples: …")).toBe("One two.");
});
