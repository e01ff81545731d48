/** The frame of every page: where one is, and where one can go. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { listServers } from "./api/client";
import { holdsCredential, href, keepCredential, listenForRefusals } from "./api/request";
import { Icon } from "./components/icon";
import { Empty } from "./components/parts";
import { Toasts } from "./components/toast";
import { useResource } from "./hooks";
import { applyTheme, readTheme, type Theme } from "./memory";
import { isShared } from "./model/servers";
import { CredentialPage } from "./pages/credential";
import { listWaiting, QuestionsPage } from "./pages/questions";
import { RunPage } from "./pages/run";
import { RunsPage } from "./pages/runs";
import { ServersPage } from "./pages/servers";
import { WorkflowPage } from "./pages/workflow";
import { WorkflowsPage } from "./pages/workflows";
import { link, usePlace, type Place } from "./router";

const BADGE_MS = 5_000;
const THEMES: Theme[] = ["auto", "light", "dark"];

export function App() {
  const place = usePlace();
  const main = useRef<HTMLElement>(null);
  const path = [...place.parts, place.query.get("run") ?? ""].join("/");
  const first = useRef(true);
  const [refused, setRefused] = useState(false);
  useLayoutEffect(() => listenForRefusals(() => setRefused(true)), []);
  useEffect(() => {
    // Who reads with the keyboard or by ear begins each page at its begin.
    if (!first.current) main.current?.focus({ preventScroll: true });
    if (!first.current) window.scrollTo(0, 0);
    first.current = false;
  }, [path]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the page
      </a>
      {refused ? <header class="top" /> : <Header current={place.parts[0] ?? "workflows"} onForget={() => setRefused(true)} />}
      <main ref={main} id="main" tabIndex={-1}>
        {refused ? <CredentialPage onGiven={() => setRefused(false)} /> : <Page place={place} />}
      </main>
      <Toasts />
    </>
  );
}

function Page({ place: { parts, query } }: { place: Place }) {
  const [page = "workflows", name] = parts;
  switch (page) {
    case "workflows":
      return name === undefined ? <WorkflowsPage /> : <WorkflowPage key={name} name={name} query={query} />;
    case "runs":
      return name === undefined ? <RunsPage query={query} /> : <RunPage handlerId={name} runId={query.get("run")} />;
    case "questions":
      return <QuestionsPage />;
    case "servers":
      return <ServersPage />;
    default:
      return (
        <Empty title="There is no such page.">
          <p>
            <a href={link(["workflows"])}>All workflows</a>
          </p>
        </Empty>
      );
  }
}

function Header({ current, onForget }: { current: string; onForget: () => void }) {
  const { data: waiting } = useResource("waiting", listWaiting, BADGE_MS);
  // Asked once: whether servers share the store, and whether this person may see them, does not change.
  const { data: servers } = useResource("servers", listServers);
  const open = waiting?.handlers.length ?? 0;
  const item = (page: string, text: string) => (
    <a href={link([page])} {...(current === page ? { "aria-current": "page" as const } : {})}>
      {text}
      {page === "questions" && open > 0 && (
        <span class="badge" aria-label={`${open} open`}>
          {waiting?.next_cursor ? `${open}+` : open}
        </span>
      )}
    </a>
  );
  return (
    <header class="top">
      <nav aria-label="Pages">
        {item("workflows", "Workflows")}
        {item("runs", "Runs")}
        {item("questions", "Questions")}
        {(current === "servers" || (servers && isShared(servers))) && item("servers", "Servers")}
      </nav>
      <div class="row top-end">
        <a href={href("docs")}>API</a>
        {holdsCredential() && (
          <button type="button" class="text-button" onClick={() => (keepCredential(null), onForget())}>
            Forget the key
          </button>
        )}
        <ThemeButton />
      </div>
    </header>
  );
}

function ThemeButton() {
  const [theme, setTheme] = useState(readTheme);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
  const change = (): void => {
    applyTheme(next);
    setTheme(next);
  };
  const label = `Colours: ${theme}. Change to ${next}.`;
  return (
    <button type="button" class="icon-button" onClick={change} aria-label={label} title={label}>
      <Icon name={theme === "auto" ? "auto" : theme === "light" ? "sun" : "moon"} />
    </button>
  );
}
