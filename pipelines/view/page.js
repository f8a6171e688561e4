"use strict";

// The keyboard: arrows turn pages, "/" goes to the condition, Escape leaves it.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const busy = event.target.closest("input, audio, video");
  const condition = document.querySelector("input[name=where]");
  if (event.key === "Escape") {
    condition.blur();
  } else if (!busy && event.key === "/") {
    event.preventDefault();
    condition.select();
  } else if (!busy && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    document.querySelector(`a[rel=${event.key === "ArrowLeft" ? "prev" : "next"}]`)?.click();
  }
});

// One voice at a time.
addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio, video")) if (player !== event.target) player.pause();
}, true);
