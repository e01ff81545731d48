/** Requests to the API, with the credential of whoever sits before the page. */

/** The folder that the page was served from: the API is beside it, under any root path. */
export const base = new URL(".", document.baseURI);

export function href(path: string): string {
  return new URL(path, base).href;
}

/** Kept for this tab alone, and gone with it. */
const CREDENTIAL = "workflow-ui:credential";
let held: string | null = readKept();
let onRefused: () => void = () => {};

function readKept(): string | null {
  try {
    return sessionStorage.getItem(CREDENTIAL);
  } catch {
    return null; // storage is off: the credential lasts as long as the page
  }
}

export function holdsCredential(): boolean {
  return held !== null;
}

export function keepCredential(credential: string | null): void {
  held = credential;
  try {
    if (credential === null) sessionStorage.removeItem(CREDENTIAL);
    else sessionStorage.setItem(CREDENTIAL, credential);
  } catch {
    // The same.
  }
}

/** Calls `listener` whenever the server wants a credential, or another one. */
export function listenForRefusals(listener: () => void): void {
  onRefused = listener;
}

/** By how many milliseconds the clock of this machine is ahead of the server's, where it matters. */
let ahead = 0;
const SAME_CLOCK = 2_000;

/** The time at the server, to which its times of runs and events are compared. */
export function serverNow(): number {
  return Date.now() - ahead;
}

/** `Date` counts in whole seconds and is sent a little earlier. */
function compareClocks(response: Response): void {
  const difference = Date.now() - Date.parse(response.headers.get("Date") ?? "");
  if (!Number.isNaN(difference)) ahead = Math.abs(difference) < SAME_CLOCK ? 0 : difference;
}

/** `fetch` of a path of the API. */
export async function ask(path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (held !== null) headers.set("Authorization", `Bearer ${held}`);
  const response = await fetch(href(path), { ...init, headers });
  compareClocks(response);
  if (response.status === 401) onRefused();
  return response;
}
