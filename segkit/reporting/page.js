// The players: one plays at a time, its playhead moves over its picture. Without this script the page has the browser's
// own players, and all segments.
(() => {
  "use strict";
  const clips = [...document.querySelectorAll(".clip")];
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let current = null;

  const visible = () => clips.filter((clip) => !clip.hidden);
  const sound = (clip) => clip && clip.querySelector("audio");

  function choose(clip, scroll) {
    if (current) current.classList.remove("current");
    current = clip;
    if (clip) clip.classList.add("current");
    if (clip && scroll) {
      clip.focus({ preventScroll: true });
      clip.scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
    }
  }

  function inSight(clip) {
    const box = clip.getBoundingClientRect();
    const middle = (box.top + box.bottom) / 2;
    return middle > 0 && middle < innerHeight;
  }

  function toggle(clip) {
    const audio = sound(clip);
    if (!audio) return;
    choose(clip, false);
    if (!audio.paused) audio.pause();
    else audio.play().catch(() => {});  // it was paused before it began
  }

  function step(by) {
    const shown = visible();
    if (!shown.length) return;
    const at = shown.indexOf(current);
    const next = shown[at < 0 ? 0 : Math.min(Math.max(at + by, 0), shown.length - 1)];
    const playing = sound(current) && !sound(current).paused;
    if (playing && next !== current) sound(current).pause();
    choose(next, true);
    if (playing && sound(next) && sound(next).paused) toggle(next);
  }

  for (const clip of clips) {
    clip.addEventListener("focusin", () => { if (current !== clip) choose(clip, false); });
    const audio = sound(clip);
    const picture = clip.querySelector(".picture");
    const scroll = clip.querySelector(".scroll");
    const start = Number(picture.dataset.start);
    const length = Number(picture.dataset.length);
    scroll.scrollLeft = (-start / length) * picture.offsetWidth - 48;  // the segment, not its context
    if (!audio) continue;
    const head = clip.querySelector(".playhead");
    const clock = clip.querySelector("output");
    const button = clip.querySelector(".play");
    const label = clip.getAttribute("aria-label");
    audio.controls = false;
    button.hidden = false;
    button.addEventListener("click", () => toggle(clip));

    let frame = 0;
    function draw() {
      cancelAnimationFrame(frame);
      const share = Math.min(audio.currentTime / length, 1);
      const started = audio.currentTime > 0 || !audio.paused;
      const time = (start + audio.currentTime).toFixed(1);
      head.style.left = `${100 * share}%`;
      picture.setAttribute("aria-valuenow", (start + audio.currentTime).toFixed(2));
      picture.setAttribute("aria-valuetext", `${time} seconds`);
      clock.textContent = started ? `${time} s` : "";
      clip.classList.toggle("started", started);
      const x = share * picture.offsetWidth;
      const inside = x >= scroll.scrollLeft && x <= scroll.scrollLeft + scroll.clientWidth - 24;
      if (started && !inside) scroll.scrollLeft = x - 40;
      if (!audio.paused) frame = requestAnimationFrame(draw);
    }
    function seek(seconds) {
      audio.currentTime = Math.min(Math.max(seconds, 0), length - 0.05);
      draw();
    }
    audio.addEventListener("play", () => {
      for (const other of clips) if (other !== clip && sound(other)) sound(other).pause();
      clip.classList.add("playing");
      button.setAttribute("aria-label", `Pause ${label}`);
      draw();
    });
    audio.addEventListener("pause", () => {
      clip.classList.remove("playing");
      button.setAttribute("aria-label", `Play ${label}`);
      draw();
    });
    audio.addEventListener("seeked", draw);
    draw();
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      choose(clip, false);
      seek(length * (event.clientX - box.left) / box.width);
    });
    picture.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -5, PageUp: 5, Home: -Infinity, End: Infinity };
      if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      seek(audio.currentTime + moves[event.key]);
    });
  }

  const filters = [...document.querySelectorAll("[data-filter]")];
  const corpora = document.querySelector(".filter select");
  const said = document.querySelector(".shown");
  let axis = "";
  function filter() {
    const corpus = corpora ? corpora.value : "";
    for (const button of filters) button.setAttribute("aria-pressed", String(button.dataset.filter === axis));
    for (const clip of clips) {
      clip.hidden = (axis && clip.dataset.axis !== axis) || (corpus && clip.dataset.corpus !== corpus);
      if (clip.hidden && sound(clip)) sound(clip).pause();
    }
    if (current && current.hidden) choose(null);
    said.textContent = `${visible().length} of ${clips.length} shown`;
  }
  for (const button of filters) button.addEventListener("click", () => { axis = button.dataset.filter; filter(); });
  if (corpora) corpora.addEventListener("change", filter);
  for (const bar of document.querySelectorAll(".bar")) bar.hidden = false;
  if (said) filter();

  // Keys act where the segments are, or where nothing has the focus; elsewhere they are the browser's.
  document.addEventListener("keydown", (event) => {
    const on = event.target;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || on.closest("select")) return;
    if (!clips.length || (on !== document.body && !on.closest("#clips"))) return;
    const key = event.key.toLowerCase();
    if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
    else if (key === " " && !event.shiftKey && !on.closest("button, a")) {
      const next = current || visible()[0];
      if (!sound(next)) return;
      choose(next, !inSight(next));
      toggle(next);
    } else if (/^[0-4]$/.test(key)) {
      const button = filters.find((one) => (one.dataset.key || "0") === key);
      if (button) button.click();
    } else if (/^arrow(left|right)$/.test(key) && sound(current)) {
      current.querySelector(".picture").dispatchEvent(new KeyboardEvent("keydown", { key: event.key }));
    } else return;
    event.preventDefault();
  });
})();
