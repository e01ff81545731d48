/** Asks for a key, where the server wants one. */

import { useEffect, useRef, useState } from "preact/hooks";
import { holdsCredential, keepCredential } from "../api/request";
import { Section } from "../components/parts";
import { useTitle } from "../hooks";

export function CredentialPage({ onGiven }: { onGiven: () => void }) {
  useTitle("Access");
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState("");
  const wrong = holdsCredential();
  useEffect(() => input.current?.focus(), []);
  const submit = (event: Event): void => {
    event.preventDefault();
    // A header holds no other characters, and no key has any.
    const key = text.replace(/[^\x21-\x7e]/g, "");
    if (!key) return;
    keepCredential(key);
    onGiven();
  };
  return (
    <div class="narrow">
      <h1>This server wants a key</h1>
      <Section id="credential" title="API key, or token">
        <form onSubmit={submit}>
          <p class="help" id="credential-help">
            Who runs the server gives keys out. It is kept in this tab until you close it.
          </p>
          <input
            ref={input}
            type="password"
            autocomplete="off"
            aria-label="API key, or token"
            aria-describedby={wrong ? "credential-fault" : "credential-help"}
            aria-invalid={wrong}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
          {wrong && (
            <p class="fault" id="credential-fault">
              The key that was given is not, or no longer, accepted.
            </p>
          )}
          <div class="row credential-row">
            <button type="submit" class="button primary">
              Go on
            </button>
          </div>
        </form>
      </Section>
    </div>
  );
}
