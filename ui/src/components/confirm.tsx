/** A question before something is done that cannot be undone. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { toProblem } from "../hooks";
import type { Call, Problem } from "../api/client";
import { CurlButton } from "./copy";
import { ProblemNote } from "./parts";

interface ConfirmProps {
  title: string;
  children: ComponentChildren;
  action: string;
  request: Call;
  onConfirm: () => Promise<void>;
  onClose: () => void;
}

export function Confirm({ title, children, action, request, onConfirm, onClose }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const confirm = async (): Promise<void> => {
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      setProblem(toProblem(error));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} class="confirm" aria-labelledby="confirm-title" onClose={onClose}>
      <h2 id="confirm-title">{title}</h2>
      {children}
      {problem && <ProblemNote problem={problem} />}
      <div class="row end">
        <CurlButton request={() => request} what={action} />
        <button type="button" class="button" autofocus onClick={() => dialog.current?.close()}>
          Keep it
        </button>
        <button type="button" class="button danger" disabled={busy} onClick={() => void confirm()}>
          {action}
        </button>
      </div>
    </dialog>
  );
}
