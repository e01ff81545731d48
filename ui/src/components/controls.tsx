/** The controls of single values. */

import { useState } from "preact/hooks";
import type { Json } from "../api/types";
import type { Described, Draft } from "../model/schema";

interface ControlProps {
  id: string;
  name: string;
  described: Described;
  value: Draft;
  onChange: (value: Draft) => void;
  invalid: boolean;
  required: boolean;
  describedBy?: string | undefined;
}

export function Control(props: ControlProps) {
  switch (props.described.shape.kind) {
    case "boolean":
      return <YesNo {...props} />;
    case "choice":
      return <Choice {...props} options={props.described.shape.options} />;
    case "number":
      return <NumberInput {...props} />;
    case "string":
      return <TextInput {...props} long={props.described.shape.long} format={props.described.shape.format} />;
    case "null":
      return <p class="null-value">null</p>;
    default:
      return <JsonInput {...props} />;
  }
}

/** What every control tells of itself; inside lists there is no label but the name. */
function attributes({ id, name, invalid, required, describedBy }: ControlProps) {
  return {
    id,
    "aria-invalid": invalid,
    "aria-required": required,
    ...(describedBy ? { "aria-describedby": describedBy } : {}),
    ...(/^\d+$/.test(name) ? { "aria-label": `Item ${Number(name) + 1}` } : {}),
  };
}

function placeholderOf({ described, value }: ControlProps): string {
  const example = described.schema.examples?.[0];
  if (value === null) return "null";
  if (example === undefined || example === null) return "";
  return `e.g. ${typeof example === "string" ? example : JSON.stringify(example)}`;
}

function TextInput(props: ControlProps & { long: boolean; format: string | undefined }) {
  const { value, onChange, long, format } = props;
  const text = typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
  const shared = {
    ...attributes(props),
    placeholder: placeholderOf(props),
    value: text,
    onInput: (event: { currentTarget: { value: string } }) => onChange(event.currentTarget.value),
  };
  if (format === "date") return <input type="date" {...shared} />;
  if (format === "password") return <input type="password" autocomplete="off" {...shared} />;
  if (long) return <textarea rows={3} {...shared} />;
  return <input type="text" {...shared} placeholder={shared.placeholder || (format === "date-time" ? "e.g. 2026-01-31T09:30:00Z" : "")} />;
}

/** Keeps what was typed as it was typed, as long as it stands for the value. */
function NumberInput(props: ControlProps) {
  const { value, onChange } = props;
  const [typed, setTyped] = useState("");
  const shown = readNumber(typed) === value ? typed : value === undefined || value === null ? "" : String(value);
  return (
    <input
      type="text"
      inputMode="decimal"
      {...attributes(props)}
      placeholder={placeholderOf(props)}
      value={shown}
      onInput={(event) => {
        setTyped(event.currentTarget.value);
        onChange(readNumber(event.currentTarget.value));
      }}
    />
  );
}

/** The number that a text stands for; the text itself where it stands for none. */
export function readNumber(text: string): Draft {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  const number = Number(trimmed);
  return Number.isFinite(number) ? number : text;
}

function YesNo(props: ControlProps) {
  const { id, value, onChange, name, invalid, required, describedBy } = props;
  const labelled = /^\d+$/.test(name) ? { "aria-label": `Item ${Number(name) + 1}` } : { "aria-labelledby": `${id}-label` };
  return (
    <div class="segments" role="radiogroup" aria-invalid={invalid} aria-required={required} {...labelled} {...(describedBy ? { "aria-describedby": describedBy } : {})}>
      {[true, false].map((option) => (
        <label key={String(option)}>
          <input type="radio" name={id} checked={value === option} onChange={() => onChange(option)} />
          {option ? "yes" : "no"}
        </label>
      ))}
    </div>
  );
}

function Choice(props: ControlProps & { options: Json[] }) {
  const { options, value, onChange } = props;
  const chosen = options.findIndex((option) => JSON.stringify(option) === JSON.stringify(value));
  return (
    <select
      {...attributes(props)}
      value={String(chosen)}
      onChange={(event) => onChange(options[Number(event.currentTarget.value)])}
    >
      {chosen < 0 && <option value="-1">Choose…</option>}
      {options.map((option, index) => (
        <option key={index} value={String(index)}>
          {typeof option === "string" ? option : JSON.stringify(option)}
        </option>
      ))}
    </select>
  );
}

/** Any value: JSON where it reads as such, else a text. */
function JsonInput(props: ControlProps) {
  const { value, onChange } = props;
  const [typed, setTyped] = useState<string | null>(null);
  const written = typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value);
  const shown = typed !== null && JSON.stringify(readAny(typed)) === JSON.stringify(value) ? typed : written;
  return (
    <textarea
      rows={1}
      class="any"
      {...attributes(props)}
      placeholder="text, or JSON"
      value={shown}
      onInput={(event) => {
        setTyped(event.currentTarget.value);
        onChange(readAny(event.currentTarget.value));
      }}
    />
  );
}

export function readAny(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}
