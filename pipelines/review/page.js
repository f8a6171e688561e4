"use strict";

const at = (id) => document.getElementById(id);
const TAGS = { image: "img", audio: "audio", video: "video" };
let shown = null;

async function ask(path, decision) {
  const sent = decision && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(decision) };
  const answer = await fetch(path, sent || {});
  if (!answer.ok) throw new Error((await answer.text()) || answer.statusText);
  return answer.json();
}

function show(found) {
  shown = found;
  const { task, decision } = found;
  at("place").textContent = `${found.number + 1} of ${found.tasks}`;
  at("progress").textContent = `${found.decided} decided`;
  at("key").textContent = task.key;
  at("state").textContent = decision ? decision.decision : "";
  at("state").className = decision ? decision.decision : "";
  at("field").textContent = task.field || "";
  at("text").value = (decision && decision.text) ?? task.text ?? "";
  at("note").value = decision ? decision.note : "";
  at("error").textContent = "";
  at("media").replaceChildren(...Object.entries(task.media || {}).map(([name, path]) => medium(found.number, name, path)));
  const facts = { ...task.context, ...task.scores, dataset: task.dataset, version: task.version };
  at("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => row(name, value)));
  document.activeElement.blur();
}

function medium(number, name, path) {
  const made = document.createElement(TAGS[kind(path)] || "a");
  const address = `/media/${number}/${encodeURIComponent(name)}`;
  if (made.tagName === "A") {
    made.href = address;
    made.textContent = name;
  } else {
    made.src = address;
    made.controls = true;
    made.title = name;
  }
  return made;
}

function kind(path) {
  const ending = path.split(".").pop().toLowerCase();
  if (["wav", "flac", "mp3", "ogg", "opus", "m4a", "aac"].includes(ending)) return "audio";
  if (["mp4", "avi", "mkv", "webm", "mov"].includes(ending)) return "video";
  return "image";
}

function row(name, value) {
  const made = document.createElement("tr");
  for (const text of [name, typeof value === "object" ? JSON.stringify(value, null, 1) : String(value)]) {
    made.appendChild(document.createElement("td")).textContent = text;
  }
  return made;
}

async function go(number) {
  if (number >= 0 && number < shown.tasks) await attempt(() => ask(`/task/${number}`));
}

async function decide(decision) {
  const number = shown.number;
  const typed = at("text").value;
  const changed = typed !== (shown.task.text ?? "").replace(/\r\n?/g, "\n"); // as a text area shows it
  // What somebody typed is never dropped: the server counts an accepted text that was changed as edited.
  const edited = decision === "edit" || (decision === "accept" && changed) ? typed : null;
  const sent = { decision, edited, note: at("note").value };
  await attempt(async () => {
    const saved = await ask(`/task/${number}`, sent);
    return number + 1 < saved.tasks ? ask(`/task/${number + 1}`) : saved;
  });
}

async function attempt(action) {
  try {
    show(await action());
  } catch (error) {
    at("error").textContent = `not saved: ${error.message}`;
  }
}

function key(event) {
  const writing = ["TEXTAREA", "INPUT"].includes(document.activeElement.tagName);
  if (event.key === "Escape") document.activeElement.blur();
  else if (writing && event.key === "Enter" && (event.ctrlKey || event.metaKey)) decide("edit");
  else if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "a") decide("accept");
  else if (event.key === "r") decide("reject");
  else if (event.key === "e") at("text").focus();
  else if (event.key === "n") at("note").focus();
  else if (event.key === "ArrowLeft") go(shown.number - 1);
  else if (event.key === "ArrowRight") go(shown.number + 1);
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", key);
at("accept").addEventListener("click", () => decide("accept"));
at("edit").addEventListener("click", () => decide("edit"));
at("reject").addEventListener("click", () => decide("reject"));
at("back").addEventListener("click", () => go(shown.number - 1));
at("forward").addEventListener("click", () => go(shown.number + 1));
attempt(() => ask("/next"));
