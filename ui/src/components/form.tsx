/** A form made from a JSON Schema, with raw JSON as a way out. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Call, Problem } from "../api/client";
import type { Json, JsonObject, JsonSchema } from "../api/types";
import { toProblem } from "../hooks";
import { exampleDraft, initialDraft, isObject } from "../model/schema";
import { keyOf, placeFaults, validate, type FieldFault } from "../model/validate";
import { CurlButton } from "./copy";
import { ObjectFields, type FormContext } from "./fields";
import { ProblemNote } from "./parts";

export interface Decision {
  name: string;
  options: Json[];
}

interface FormProps {
  schema: JsonSchema;
  initial?: JsonObject | null | undefined;
  submitLabel: string;
  request: (value: JsonObject) => Call;
  onSubmit: (value: JsonObject) => Promise<void>;
  /** What stands before the buttons: fields that are not the event's. */
  children?: ComponentChildren;
  /** A field whose values are buttons that send, instead of a field to fill in first. */
  decision?: Decision | null;
  disabled?: boolean;
}

export function SchemaForm({ schema, initial, submitLabel, request, onSubmit, children, decision = null, disabled = false }: FormProps) {
  const id = useId();
  const form = useRef<HTMLFormElement>(null);
  const [draft, setDraft] = useState<JsonObject>(() => initial ?? asObject(initialDraft(schema, schema)));
  const [text, setText] = useState<string | null>(null);
  const [faults, setFaults] = useState<FieldFault[]>([]);
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [focusFault, setFocusFault] = useState(0);

  useEffect(() => {
    const faulty = form.current?.querySelector<HTMLElement>("[aria-invalid=true]");
    if (focusFault) (faulty?.querySelector("input") ?? faulty)?.focus();
  }, [focusFault]);

  const change = (next: JsonObject): void => {
    setDraft(next);
    setProblem(null);
    if (tried) setFaults(validate(next, schema, schema));
  };
  const read = (): JsonObject | null => {
    if (text === null) return draft;
    try {
      const value = JSON.parse(text) as unknown;
      return isObject(value as JsonObject) ? (value as JsonObject) : null;
    } catch {
      return null;
    }
  };
  const send = async (value: JsonObject): Promise<void> => {
    setTried(true);
    const found = validate(value, schema, schema);
    setFaults(found);
    setProblem(null);
    // Raw JSON may hold what the form does not know of: the server has the last word.
    if (found.length && text === null) return setFocusFault((turn) => turn + 1);
    setBusy(true);
    try {
      await onSubmit(value);
    } catch (error) {
      const refused = toProblem(error);
      setProblem(refused);
      setFaults(placeFaults(refused.faults, value));
      setFocusFault((turn) => turn + 1);
    } finally {
      setBusy(false);
    }
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    // Enter in a field decides nothing.
    if (decision && text === null) return;
    const value = read();
    if (value === null) setFaults([{ path: [], message: "This is not a JSON object." }]);
    else void send(value);
  };
  const toggleRaw = (): void => {
    const value = read();
    if (text === null) setText(JSON.stringify(draft, null, 2));
    else if (value === null) setFaults([{ path: [], message: "This is not a JSON object." }]);
    else {
      setDraft(value);
      setText(null);
      setFaults([]);
    }
  };
  const example = exampleDraft(schema);
  const fillExample = (): void => {
    const next = { ...draft, ...example };
    change(next);
    if (text !== null) setText(JSON.stringify(next, null, 2));
  };
  const firstOption: JsonObject = decision ? { [decision.name]: decision.options[0] ?? null } : {};
  const context: FormContext = { id, root: schema, faults: new Map(faults.map((fault) => [keyOf(fault.path), fault.message])) };
  const rootFault = context.faults.get("");

  return (
    <form ref={form} class="schema-form" noValidate onSubmit={submit}>
      <div class="row form-tools">
        <div class="segments" role="group" aria-label="How to fill in">
          <button type="button" aria-pressed={text === null} onClick={() => text !== null && toggleRaw()}>
            Form
          </button>
          <button type="button" aria-pressed={text !== null} onClick={() => text === null && toggleRaw()}>
            JSON
          </button>
        </div>
        {example && (
          <button type="button" class="text-button" onClick={fillExample}>
            Fill in an example
          </button>
        )}
      </div>
      <fieldset disabled={disabled} class="plain">
        {text === null ? (
          <ObjectFields schema={decision ? without(schema, decision.name) : schema} path={[]} value={draft} onChange={(next) => change(asObject(next))} context={context} />
        ) : (
          <textarea
            class="raw"
            aria-label="The event's fields as JSON"
            aria-invalid={rootFault !== undefined}
            rows={10}
            spellcheck={false}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        )}
      </fieldset>
      {text !== null && faults.some((fault) => fault.path.length > 0) && (
        <ul class="fault-list">
          {faults.map((fault) => (
            <li key={keyOf(fault.path)}>
              <code>{fault.path.join(".") || "the whole"}</code>: {fault.message}
            </li>
          ))}
        </ul>
      )}
      {rootFault && <p class="fault">{rootFault}</p>}
      {children}
      {problem && <ProblemNote problem={problem} />}
      <div class="row">
        {decision && text === null ? (
          decision.options.map((option) => (
            <button
              key={String(option)}
              type="button"
              class={`button ${option === true ? "primary" : ""}`}
              disabled={busy || disabled}
              onClick={() => void send({ ...draft, [decision.name]: option })}
            >
              {decision.name}: {option === true ? "yes" : option === false ? "no" : String(option)}
            </button>
          ))
        ) : (
          <button type="submit" class="button primary" disabled={busy || disabled}>
            {submitLabel}
          </button>
        )}
        <CurlButton request={() => request({ ...firstOption, ...(read() ?? draft) })} what={submitLabel} />
      </div>
    </form>
  );
}

/** A schema without the one field that is decided by buttons. */
function without(schema: JsonSchema, name: string): JsonSchema {
  const { [name]: _decided, ...properties } = schema.properties ?? {};
  return { ...schema, properties };
}

function asObject(value: unknown): JsonObject {
  return isObject(value as JsonObject) ? (value as JsonObject) : {};
}

