/** The fields of a form: one editor for each shape of a schema. */

import { useState } from "preact/hooks";
import type { Json, JsonObject, JsonSchema } from "../api/types";
import { clean, describe, initialDraft, isObject, titleOf, type Draft, type Field, type Path } from "../model/schema";
import { keyOf, validate } from "../model/validate";
import { Icon } from "./icon";
import { Control } from "./controls";

export interface FormContext {
  id: string;
  root: JsonSchema;
  faults: Map<string, string>;
}

export interface EditorProps {
  schema: JsonSchema;
  path: Path;
  value: Draft;
  onChange: (value: Draft) => void;
  context: FormContext;
}

/** The editors of an object's fields, and of the fields that it takes besides. */
export function ObjectFields({ schema, path, value, onChange, context }: EditorProps) {
  const { shape } = describe(schema, context.root);
  const object = isObject(value) ? value : {};
  const fields = shape.kind === "object" ? shape.fields : [];
  const known = new Set(fields.map((field) => field.name));
  const others = Object.keys(object).filter((name) => !known.has(name));
  const extra = shape.kind === "object" ? shape.extra : true;
  const free = fields.length === 0 || extra !== false || others.length > 0;
  const set = (name: string, next: Draft): void => onChange(clean({ ...object, [name]: next }));
  return (
    <div class="fields">
      {fields.map((field) => (
        <FieldRow
          key={field.name}
          field={field}
          path={[...path, field.name]}
          value={object[field.name]}
          onChange={(next) => set(field.name, next)}
          context={context}
        />
      ))}
      {free && (
        <FreeFields
          names={others}
          values={typeof extra === "object" ? extra : {}}
          path={path}
          value={object}
          onChange={onChange}
          context={context}
          lonely={fields.length === 0}
        />
      )}
    </div>
  );
}

interface FieldRowProps {
  field: Field;
  path: Path;
  value: Draft;
  onChange: (value: Draft) => void;
  context: FormContext;
}

function FieldRow({ field, path, value, onChange, context }: FieldRowProps) {
  const { shape, nullable, schema } = describe(field.schema, context.root);
  const id = `${context.id}-${keyOf(path)}`;
  const fault = context.faults.get(keyOf(path));
  const simple = !["object", "list", "union", "boolean", "null"].includes(shape.kind);
  const Label = simple ? "label" : "span";
  const canLeaveOut = !field.required && value !== undefined && schema.default === undefined;
  const described = [schema.description && `${id}-help`, fault && `${id}-fault`].filter(Boolean).join(" ");
  return (
    <div class={`field ${simple ? "" : "nested"}`} {...(simple ? {} : { role: "group", "aria-labelledby": `${id}-label` })}>
      <div class="field-head">
        <Label id={`${id}-label`} class="label" {...(simple ? { for: id } : {})}>
          {field.name}
          {field.required && (
            <span class="required" title="required" aria-hidden="true">
              {" *"}
            </span>
          )}
        </Label>
        <span class="kind">{kindName(field.schema, context.root)}</span>
        {nullable && (
          <button
            type="button"
            class="chip"
            aria-pressed={value === null}
            aria-label={`${field.name} is null`}
            onClick={() => onChange(value === null ? initialDraft(notNull(schema), context.root) : null)}
          >
            null
          </button>
        )}
        {canLeaveOut && value !== null && (
          <button type="button" class="text-button" aria-label={`leave out ${field.name}`} onClick={() => onChange(undefined)}>
            leave out
          </button>
        )}
      </div>
      {schema.description && (
        <p class="help" id={`${id}-help`}>
          {schema.description}
        </p>
      )}
      <FieldEditor schema={field.schema} path={path} value={value} onChange={onChange} context={context} describedBy={described} required={field.required} />
      {fault && (
        <p class="fault" id={`${id}-fault`}>
          {fault}
        </p>
      )}
    </div>
  );
}

/** A nullable schema's other half, to begin a value with. */
function notNull({ default: _default, ...schema }: JsonSchema): JsonSchema {
  return schema;
}

export function FieldEditor(props: EditorProps & { describedBy?: string; required?: boolean }) {
  const { schema, path, value, onChange, context, describedBy, required = false } = props;
  const described = describe(schema, context.root);
  const { shape } = described;
  if (value === null && described.nullable && !["string", "number"].includes(shape.kind)) {
    return <p class="null-value">null</p>;
  }
  switch (shape.kind) {
    case "object":
      if (value === undefined) {
        return (
          <button type="button" class="button small" onClick={() => onChange(initialDraft(notNull(described.schema), context.root))}>
            <Icon name="plus" /> Fill in
          </button>
        );
      }
      return <ObjectFields {...props} schema={described.schema} />;
    case "list":
      return <ListEditor {...props} items={shape.items} />;
    case "union":
      return <UnionEditor {...props} variants={shape.variants} />;
    default:
      return (
        <Control
          id={`${context.id}-${keyOf(path)}`}
          described={described}
          value={value}
          onChange={onChange}
          name={String(path.at(-1) ?? "")}
          invalid={context.faults.has(keyOf(path))}
          describedBy={describedBy}
          required={required}
        />
      );
  }
}

function ListEditor({ path, value, onChange, context, items }: EditorProps & { items: JsonSchema }) {
  const list = Array.isArray(value) ? value : [];
  const name = String(path.at(-1) ?? "list");
  const set = (index: number, next: Draft): void => onChange(list.map((item, at) => (at === index ? (next ?? "") : item)));
  return (
    <div class="list">
      {list.map((item, index) => {
        const fault = context.faults.get(keyOf([...path, index]));
        return (
          <div class="list-item" key={index} role="group" aria-label={`${name}, item ${index + 1}`}>
            <div class="list-value">
              <FieldEditor
                schema={items}
                path={[...path, index]}
                value={item}
                onChange={(next) => set(index, next)}
                context={context}
              />
              {fault && <p class="fault">{fault}</p>}
            </div>
            <button
              type="button"
              class="icon-button"
              aria-label={`Remove item ${index + 1} of ${name}`}
              onClick={() => onChange(list.filter((_, at) => at !== index))}
            >
              <Icon name="minus" />
            </button>
          </div>
        );
      })}
      <button type="button" class="button small" onClick={() => onChange([...list, initialDraft(items, context.root) ?? emptyOf(items, context.root)])}>
        <Icon name="plus" /> Add to {name}
      </button>
    </div>
  );
}

function UnionEditor(props: EditorProps & { variants: JsonSchema[] }) {
  const { variants, value, context, onChange, path } = props;
  const fitting = variants.findIndex((variant) => value !== undefined && validate(value, variant, context.root).length === 0);
  const [chosen, setChosen] = useState(Math.max(0, fitting));
  const variant = variants[chosen] ?? {};
  const choose = (index: number): void => {
    setChosen(index);
    onChange(initialDraft(variants[index] ?? {}, context.root));
  };
  return (
    <div class="union">
      <select
        aria-label={`Kind of ${String(path.at(-1) ?? "value")}`}
        value={String(chosen)}
        onChange={(event) => choose(Number(event.currentTarget.value))}
      >
        {variants.map((one, index) => (
          <option key={index} value={String(index)}>
            {kindName(one, context.root)}
          </option>
        ))}
      </select>
      <FieldEditor {...props} schema={variant} />
    </div>
  );
}

interface FreeFieldsProps {
  names: string[];
  values: JsonSchema;
  path: Path;
  value: JsonObject;
  onChange: (value: Draft) => void;
  context: FormContext;
  lonely: boolean;
}

/** Fields of any name, for events that take whatever they are given. */
function FreeFields({ names, values, path, value, onChange, context, lonely }: FreeFieldsProps) {
  const [name, setName] = useState("");
  const id = `${context.id}-${keyOf(path)}-new`;
  const add = (): void => {
    if (!name || name in value) return;
    onChange({ ...value, [name]: initialDraft(values, context.root) ?? "" });
    setName("");
  };
  return (
    <div class="free-fields">
      {names.map((one) => (
        <div class="list-item" key={one}>
          <div class="list-value">
            <FieldRow
              field={{ name: one, schema: values, required: false }}
              path={[...path, one]}
              value={value[one]}
              onChange={(next) => onChange(clean({ ...value, [one]: next }))}
              context={context}
            />
          </div>
        </div>
      ))}
      <label class="help" for={id}>
        {lonely ? "This takes fields of any name; none is required." : "More fields, by name:"}
      </label>
      <div class="row">
        <input
          id={id}
          type="text"
          placeholder="name of a field"
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter") return;
            event.preventDefault();
            add();
          }}
        />
        <button type="button" class="button small" onClick={add}>
          <Icon name="plus" /> Add a field
        </button>
      </div>
    </div>
  );
}

function emptyOf(items: JsonSchema, root: JsonSchema): Json {
  const { shape } = describe(items, root);
  return shape.kind === "boolean" ? false : shape.kind === "number" ? 0 : "";
}

function kindName(given: JsonSchema, root: JsonSchema): string {
  const { shape, schema } = describe(given, root);
  switch (shape.kind) {
    case "string":
      return shape.format ?? "text";
    case "number":
      return shape.integer ? "whole number" : "number";
    case "boolean":
      return "yes or no";
    case "choice":
      return "one of";
    case "list":
      return `list of ${kindName(shape.items, root)}`;
    case "object":
      return shape.fields.length ? titleOf(schema, "object") : "object";
    case "union":
      return shape.variants.map((variant) => kindName(variant, root)).join(" or ");
    case "null":
      return "null";
    case "any":
      return "anything";
  }
}
