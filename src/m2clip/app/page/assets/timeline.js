// Lanes and moments lead into the player of the same tab, by mouse and by keys; a line shows where the player is.
const tab = element.closest("[role=tabpanel]") || document;
const player = () => tab.querySelector(".m2-picker video");

function seek(seconds) {
  const video = player();
  if (!video) return;
  const end = Number.isFinite(video.duration) ? Math.max(0, video.duration - 0.01) : seconds;
  video.currentTime = Math.max(0, Math.min(seconds, end));
  const box = video.getBoundingClientRect();
  if (box.bottom < 60 || box.top > window.innerHeight - 60) video.scrollIntoView({ block: "start" });
}

element.addEventListener("click", (event) => {
  const moment = event.target.closest("[data-seek]");
  if (moment) return seek(Number(moment.dataset.seek));
  const lanes = event.target.closest(".m2-lanes");
  if (lanes) {
    const box = lanes.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * Number(lanes.dataset.duration));
  }
});

element.addEventListener("keydown", (event) => {
  const lanes = event.target.closest(".m2-lanes"), video = player();
  if (!lanes || !video) return;
  const step = Number(lanes.dataset.step), duration = Number(lanes.dataset.duration);
  const to = { ArrowRight: video.currentTime + step, ArrowUp: video.currentTime + step, ArrowLeft: video.currentTime - step,
    ArrowDown: video.currentTime - step, PageUp: video.currentTime + 10 * step, PageDown: video.currentTime - 10 * step,
    Home: 0, End: duration }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  seek(Math.max(0, Math.min(to, duration)));
});

const shown = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
function mark() {
  const lanes = element.querySelector(".m2-lanes"), video = player();
  if (!lanes || !video) return;
  const now = Math.min(video.currentTime, Number(lanes.dataset.duration));
  lanes.setAttribute("aria-valuenow", now.toFixed(1));
  lanes.setAttribute("aria-valuetext", shown(now));
  lanes.querySelector(".m2-head").style.left = `${(100 * now) / Number(lanes.dataset.duration)}%`;
  element.querySelectorAll(".m2-moment").forEach((moment) => {
    const here = now >= Number(moment.dataset.seek) && now < Number(moment.dataset.end);
    if (here) moment.setAttribute("aria-current", "true");
    else moment.removeAttribute("aria-current");
  });
}
for (const type of ["timeupdate", "seeking", "loadeddata"]) tab.addEventListener(type, mark, true);
watch("value", mark);
