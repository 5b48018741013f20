// Reloads this page when an edit has gone live. Put there by hotreload.live_script(), during development only.
(function () {
  "use strict";
  const me = document.currentScript;
  if (!me || !window.EventSource || window.__hotreload_live__) return;
  window.__hotreload_live__ = true; // the tag may be in a layout and in a part of it

  const RELOADING = new Set(["live", "base"]);
  const LONGEST_PAUSE = 30000;
  let pause = 1000;
  let pending = 0;

  function heard(message) {
    let event;
    try {
      event = JSON.parse(message.data);
    } catch (error) {
      return;
    }
    const isNews = RELOADING.has(event.outcome);
    // Whoever wants to do something else than reload, or to save a form first, calls preventDefault().
    const told = new CustomEvent("hotreload", { detail: event, cancelable: isNews });
    if (!window.dispatchEvent(told) || !isNews) return;
    clearTimeout(pending); // several modules of one save are one reload
    pending = setTimeout(function () { window.location.reload(); }, 30);
  }

  function connect() {
    // What went live while this page was on its way is news to it: so it says how long ago it set out.
    const url = new URL("events?age=" + Math.round(performance.now()), me.src);
    const source = new EventSource(url);
    source.addEventListener("open", function () { pause = 1000; });
    source.addEventListener("reload", heard);
    source.addEventListener("error", function () {
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      setTimeout(connect, pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    });
  }
  connect();
})();
