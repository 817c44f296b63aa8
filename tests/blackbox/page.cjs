/* Drive the chat page in a headless Chromium: node page.cjs URL CHROMIUM [KEY] [SCREENSHOT-PREFIX]. Prints one JSON object of what was seen.
 * Waits are for states of the page, never for time. */
const { chromium } = require("playwright-core");
const [url, executablePath, key, shots] = process.argv.slice(2);

async function ask(page, text) {
  await page.fill("#say", text);
  await page.press("#say", "Enter");
}
const finished = (page) => page.waitForFunction(() => document.querySelector("#stop").hidden && !document.querySelector("[aria-busy]"));
const last = (page) => page.locator(".turn.assistant").last();

async function main() {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--no-proxy-server"] });
  const page = await browser.newPage({ viewport: { width: 1100, height: 800 }, colorScheme: "light", locale: "en-US" });
  const seen = { complaints: [], outside: [] };
  page.on("console", (m) => { if (m.type() === "error" && !/401/.test(m.text())) seen.complaints.push(m.text()); });
  page.on("pageerror", (e) => seen.complaints.push(String(e)));
  page.on("request", (r) => { if (!r.url().startsWith(url) && !r.url().startsWith("data:")) seen.outside.push(r.url()); });
  page.setDefaultTimeout(120000);
  await page.goto(url);
  if (key) {
    await page.waitForSelector("#ask-key[open]");
    await page.fill("#key", key);
    await page.press("#key", "Enter");
  }
  await page.waitForFunction(() => document.querySelector("#model").options.length > 0);
  seen.models = await page.$$eval("#model option", (o) => o.map((x) => x.value));
  if (seen.models.includes("smollm2")) await page.selectOption("#model", "smollm2");
  if (shots) await page.screenshot({ path: shots + "-empty.png" });

  await page.click("#open-settings");
  await page.fill("#temperature", "0");
  await page.fill("#max-tokens", "60");
  await page.click("#settings .go");
  await ask(page, "What is the capital of France?");
  await finished(page);
  seen.answer = await last(page).locator(".text").innerText();
  seen.stats = await last(page).locator(".stats").innerText();

  await page.click("#open-settings");
  await page.fill("#max-tokens", "2000");
  await page.fill("#temperature", "1");
  await page.click("#settings .go");
  await ask(page, "Write a very long story.\nWith <b>markup</b>.");
  await page.waitForFunction(() => document.querySelectorAll(".turn.assistant").length === 2 && [...document.querySelectorAll(".turn.assistant .text")].pop().innerText.length > 20);
  seen.busy = await page.isVisible("#stop");
  if (shots) await page.screenshot({ path: shots + "-busy.png" });
  await page.press("#say", "Escape");
  await finished(page);
  seen.stopped = await last(page).locator(".stats").innerText();
  seen.mine = await page.locator(".turn.user .text").last().innerText();

  await page.click("#language");
  seen.chinese = await page.locator("#send").innerText();
  seen.lang = await page.getAttribute("html", "lang");
  await page.click("#theme");
  seen.theme = await page.getAttribute("html", "data-theme");
  if (shots) await page.screenshot({ path: shots + "-dark.png" });

  /* What a hostile model may say: kept as text, and shown as text. */
  await page.evaluate(() => localStorage.setItem("baimo.turns", JSON.stringify([{ role: "user", content: "<img src=x onerror=alert(1)>" }, { role: "assistant", reasoning: "<script>1<\/script>",
    content: "# Title\n\n<img src=x onerror=alert(1)> **bold** `code` [x](javascript:alert(1)) [y](https://example.org/)\n\n- one\n  - two\n- three\n\n```html\n<script>alert(1)<\/script>\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n1. x\n2. y\n\n> quote" }])));
  await page.reload();
  await page.waitForSelector(".turn.assistant .block");
  seen.hostile = await page.evaluate(() => ({ images: document.querySelectorAll("main img, main script").length, links: [...document.querySelectorAll("main a")].map((a) => a.href),
    text: document.querySelector(".turn.assistant .text").innerText, bold: document.querySelector("main strong, .text strong").innerText, code: document.querySelector(".block code").innerText,
    lists: document.querySelectorAll(".text ul, .text ol").length, cells: document.querySelectorAll(".text td").length, thought: document.querySelector("details.think") !== null }));
  if (shots) await page.screenshot({ path: shots + "-markdown.png" });
  seen.unlabelled = await page.$$eval("button, select, textarea, input", (all) => all.filter((e) => !(e.getAttribute("aria-label") || e.innerText.trim() || e.closest("label") || e.offsetParent === null)).map((e) => e.id || e.outerHTML));
  await page.click("#new");
  seen.left = await page.locator(".turn").count();
  await browser.close();
  console.log(JSON.stringify(seen));
}
main().catch((e) => { console.error(e); process.exit(1); });
