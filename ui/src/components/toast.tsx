/** A word about what has just been done. */

import { useEffect, useState } from "preact/hooks";

let show: (text: string) => void = () => {};

export function toast(text: string): void {
  show(text);
}

export function Toasts() {
  const [text, setText] = useState("");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    show = (next) => {
      setText(next);
      clearTimeout(timer);
      timer = setTimeout(() => setText(""), 4000);
    };
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {text && <div class="toast">{text}</div>}
    </div>
  );
}
