/** Copying: a value, or the `curl` of an action. */

import type { Call } from "../api/client";
import { curl } from "../api/client";
import { Icon } from "./icon";
import { toast } from "./toast";

export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOldWay(text); // no clipboard where the page is neither https nor localhost
  }
}

function copyOldWay(text: string): void {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  const host = document.querySelector("dialog[open]") ?? document.body;
  host.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

interface CopyProps {
  text: () => string;
  label: string;
  compact?: boolean;
}

export function CopyButton({ text, label, compact = false }: CopyProps) {
  const onClick = (): void => void copy(text()).then(() => toast("Copied."));
  return (
    <button type="button" class={compact ? "icon-button" : "button quiet"} onClick={onClick} aria-label={label} title={label}>
      <Icon name="copy" />
      {!compact && "Copy"}
    </button>
  );
}

export function CurlButton({ request, what }: { request: () => Call; what: string }) {
  const onClick = (): void => {
    const command = curl(request());
    void copy(command).then(() => toast(`Copied: ${command.length > 160 ? `${command.slice(0, 160)}…` : command}`));
  };
  const label = `Copy the curl command: ${what}`;
  return (
    <button type="button" class="button quiet curl" onClick={onClick} aria-label={label} title={label}>
      <Icon name="terminal" />
      curl
    </button>
  );
}
