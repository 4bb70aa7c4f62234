// Requests to the server. All are given up with an AbortSignal, and the server then stops working on them.

export async function call(path, body, signal) {
  const options = body === undefined ? { signal } : { method: "POST", body: JSON.stringify(body), signal };
  return read(await fetch(path, options));
}

export async function read(answer) {
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || `the server answered ${answer.status}`);
  }
  return answer.status === 204 ? null : answer.json();
}

// Lines of JSON as they come.
export async function* lines(path, body, signal) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), signal });
  if (!answer.ok) await read(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (waiting + value).split("\n");
    waiting = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

export async function bytes(path, signal) {
  const answer = await fetch(path, { signal });
  if (!answer.ok) await read(answer);
  return answer.blob();
}

export const query = (options) =>
  new URLSearchParams(Object.entries(options).filter(([, value]) => value !== undefined && value !== "")).toString();
