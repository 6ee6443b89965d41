// One place to choose, drop or record a video, and its player. Tells the server only the token of what was uploaded.
const root = element.querySelector(".m2-picker");
const find = (selector) => root.querySelector(selector);
const input = find("input[type=file]"), player = find("video"), drop = find(".m2-drop"), trouble = find(".m2-picker-trouble");
const progress = find("progress"), nameLine = find(".m2-picked"), stopButton = find(".m2-stop"), unplayable = find(".m2-unplayable");
const mostBytes = Number(root.dataset.mostBytes), mostSeconds = Number(root.dataset.mostSeconds);
const endings = root.dataset.endings.split(" ");
let request = null, recorder = null, address = null, timer = null;

const sizeText = (bytes) => (bytes >= 2 ** 20 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${Math.max(1, Math.round(bytes / 1024))} KiB`);

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function say(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

function show(url, mine) {
  if (address) URL.revokeObjectURL(address);
  address = mine ? url : null;
  unplayable.hidden = true;
  player.muted = true;
  player.srcObject = null;
  player.src = url;
  player.controls = true;
  root.dataset.state = "ready";
}

function send(file) {
  if (request) request.abort();
  const mine = (request = new XMLHttpRequest());
  mine.open("POST", "page/upload");
  mine.setRequestHeader("X-Name", encodeURIComponent(file.name));
  mine.responseType = "json";
  mine.upload.onprogress = (event) => {
    progress.hidden = false;
    progress.value = event.lengthComputable ? event.loaded / event.total : 0;
  };
  mine.onloadend = () => { progress.hidden = true; };
  mine.onload = () => {
    if (mine !== request) return;
    const answer = mine.response || {};
    if (mine.status === 200) trigger("upload", { token: answer.token, name: file.name });
    else say(answer.error ? sentence(answer.error.message) : `The server does not answer as it should (${mine.status}). Try again.`);
  };
  mine.onerror = () => say("The server cannot be reached. Is it still running? Then try again.");
  mine.send(file);
}

function take(file) {
  say("");
  const ending = file.name.includes(".") ? file.name.split(".").pop().toLowerCase() : "";
  if (!file.type.startsWith("video/") && !endings.includes(ending)) {
    say(`${file.name} is no video (${file.type || "its type is unknown"}). Choose a video file: ${endings.slice(0, 6).join(", ")} and the like.`);
    return;
  }
  if (file.size > mostBytes) {
    say(`${file.name} has ${sizeText(file.size)}, and ${sizeText(mostBytes)} are taken at most. Cut it, or choose a smaller copy.`);
    return;
  }
  nameLine.textContent = `${file.name} (${sizeText(file.size)})`;
  show(URL.createObjectURL(file), true);
  send(file);
}

input.addEventListener("change", () => { if (input.files.length) take(input.files[0]); input.value = ""; });
root.querySelectorAll(".m2-choose").forEach((button) => button.addEventListener("click", () => input.click()));
for (const type of ["dragenter", "dragover"]) root.addEventListener(type, (event) => { event.preventDefault(); root.dataset.over = "1"; });
for (const type of ["dragleave", "drop"]) root.addEventListener(type, () => { delete root.dataset.over; });
root.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]); });

root.querySelectorAll("[data-example]").forEach((button) => button.addEventListener("click", () => {
  say("");
  nameLine.textContent = button.dataset.name;
  show(`page/example/${button.dataset.example}`, false);
  if (request) request.abort();
  trigger("upload", { token: `example-${button.dataset.example}`, name: button.dataset.name });
}));

player.addEventListener("error", () => { if (root.dataset.state === "ready" && player.getAttribute("src")) unplayable.hidden = false; });

// Recording: what the camera sees goes into a file here, and from there the same way as a chosen one.
async function record() {
  say("");
  if (!navigator.mediaDevices || !window.MediaRecorder) {
    say("This browser lets a page use the camera only on this machine itself or behind https. Choose a file instead.");
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
  } catch (error) {
    say(error.name === "NotFoundError" ? "There is no camera on this machine. Choose a file instead."
      : "The browser did not give the camera free. Allow it beside the page's address, or choose a file.");
    return;
  }
  const pieces = [];
  const kind = ["video/webm;codecs=vp8", "video/webm", "video/mp4"].find((one) => MediaRecorder.isTypeSupported(one));
  recorder = new MediaRecorder(stream, kind ? { mimeType: kind } : {});
  recorder.ondataavailable = (event) => pieces.push(event.data);
  recorder.onstop = () => {
    clearTimeout(timer);
    stream.getTracks().forEach((track) => track.stop());
    player.srcObject = null;
    const type = (recorder.mimeType || "video/webm").split(";")[0];
    recorder = null;
    take(new File(pieces, `recording.${type.split("/")[1]}`, { type }));
    find(".m2-choose-again").focus();
  };
  nameLine.textContent = "Recording…";
  player.removeAttribute("src");
  player.srcObject = stream;
  player.controls = false;
  player.muted = true;
  player.play();
  root.dataset.state = "recording";
  recorder.start();
  timer = setTimeout(() => recorder && recorder.stop(), 1000 * Math.min(30, mostSeconds));
  stopButton.focus();
}
root.querySelectorAll(".m2-record").forEach((button) => button.addEventListener("click", record));
stopButton.addEventListener("click", () => recorder && recorder.stop());
