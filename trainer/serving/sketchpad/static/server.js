// Asks the server what a drawing is; see sketchpad.js.
"use strict";

async function guess(strokes, signal) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ strokes }),
    signal,
  };
  const { ok, result } = await post(request);
  if (!ok) throw new Error(`The server does not take it: ${result.error}`);
  const { guesses, side } = result;
  return { guesses, side, bitmap: Uint8Array.from(atob(result.bitmap), (c) => c.charCodeAt(0)) };

  async function post(request) {
    try {
      const answer = await fetch("guess", request);
      return { ok: answer.ok, result: await answer.json() };
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is it still running?");
    }
  }
}
