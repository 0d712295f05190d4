// Opens a score page in headless Chromium, uses its fields, and prints what it shows as JSON; see test_report.py.
// node page.mjs FOLDER_WITH_NODE_MODULES PAGE
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const [, , folder, page] = process.argv;
const require = createRequire(pathToFileURL(folder + "/"));
const load = async name => import(pathToFileURL(require.resolve(name)).href);
const puppeteer = (await load("puppeteer-core")).default;
const chromium = (await load("@sparticuz/chromium")).default;
const browser = await puppeteer.launch({
  args: chromium.args, executablePath: await chromium.executablePath(), headless: "shell",
});
const tab = await browser.newPage();
const errors = [], requests = [];
tab.on("pageerror", error => errors.push(String(error)));
tab.on("request", request => request.url().startsWith("data:") || requests.push(request.url()));
await tab.goto(pathToFileURL(page).href);
const shown = () => tab.$eval("#shown", element => element.textContent);
const words = () => tab.$$eval("article", cards => cards.filter(card => !card.hidden).map(card => card.dataset.word));
const result = { first: await shown(), words: await words() };
await tab.select("#sort", "word");
result.sorted = await words();
await tab.select("#style", "01");
await tab.type("#word", "BÜ");
result.filtered = [await shown(), await words()];
result.broken = await tab.$$eval("img", images => images.filter(image => !image.naturalWidth).length);
console.log(JSON.stringify({ ...result, errors, requests: requests.length }));
await browser.close();
