/** JSON as text to fold; nothing in it is ever markup. */

import { useState } from "preact/hooks";
import type { Json } from "../api/types";
import { preview } from "../model/format";
import { Icon } from "./icon";

const SHOWN_ITEMS = 100;
const SHOWN_TEXT = 2_000;
const FOLDED = 80;
const OPEN_DEPTH = 2;

export function JsonView({ value, label }: { value: Json; label: string }) {
  return (
    <div class="json" role="group" aria-label={label}>
      <Node value={value} depth={0} />
    </div>
  );
}

function Node({ value, depth, name }: { value: Json; depth: number; name?: string | undefined }) {
  if (value === null || typeof value !== "object") return <Leaf value={value} name={name} />;
  const entries = Object.entries(value);
  const brackets = Array.isArray(value) ? "[]" : "{}";
  if (!entries.length) return <Line name={name} text={brackets} kind="punctuation" />;
  return <Branch value={value} entries={entries} depth={depth} name={name} />;
}

interface BranchProps {
  value: Json;
  entries: [string, Json][];
  depth: number;
  name: string | undefined;
}

function Branch({ value, entries, depth, name }: BranchProps) {
  const [open, setOpen] = useState(depth < OPEN_DEPTH && entries.length <= SHOWN_ITEMS);
  const [shown, setShown] = useState(SHOWN_ITEMS);
  const list = Array.isArray(value);
  return (
    <div class="json-branch">
      <button type="button" class="json-fold" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="right" />
        {name !== undefined && <Key name={name} />}
        <span class="json-punctuation">
          {open ? (list ? "[" : "{") : preview(value, FOLDED)}
        </span>
      </button>
      {open && (
        <div class="json-inside">
          {entries.slice(0, shown).map(([key, item]) => (
            <Node key={key} value={item} depth={depth + 1} {...(list ? {} : { name: key })} />
          ))}
          {entries.length > shown && (
            <button type="button" class="text-button" onClick={() => setShown(shown + 10 * SHOWN_ITEMS)}>
              {entries.length - shown} more…
            </button>
          )}
        </div>
      )}
      {open && <span class="json-punctuation json-close">{list ? "]" : "}"}</span>}
    </div>
  );
}

function Leaf({ value, name }: { value: null | boolean | number | string; name: string | undefined }) {
  const [whole, setWhole] = useState(false);
  const text = JSON.stringify(value);
  const long = text.length > SHOWN_TEXT && !whole;
  return (
    <>
      <Line name={name} text={long ? `${text.slice(0, SHOWN_TEXT)}…` : text} kind={value === null ? "null" : typeof value} />
      {long && (
        <button type="button" class="text-button" onClick={() => setWhole(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </>
  );
}

function Line({ name, text, kind }: { name: string | undefined; text: string; kind: string }) {
  return (
    <div class="json-line">
      {name !== undefined && <Key name={name} />}
      <span class={`json-${kind}`}>{text}</span>
    </div>
  );
}

function Key({ name }: { name: string }) {
  return <span class="json-key">{name}: </span>;
}
