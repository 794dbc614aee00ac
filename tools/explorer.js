// Joins the page's controls to the map. `everything` holds all images; `shown`, `labels` and `ring` are what the map draws over them.
const at = id => document.getElementById(id)
const {x, y, index, truth} = everything.data
const rows = Array.from(index, (_, row) => row)
const choice = at("choices").elements
const card = at("card")
const place = document.querySelector(".map")
const number = value => value.toLocaleString("en")
const nameOf = label => label < 0 ? "no name" : names[label]
const said = (row, method = choice.method.value) => everything.data[method][row]
const wrong = (row, method) => said(row, method) !== truth[row]
const cluster = (row, method) => everything.data[method + "_cluster"][row]

const kinds = {
  all: () => true,
  wrong: row => wrong(row),
  hard: row => methods.every(method => wrong(row, method)),
  alone: row => !wrong(row) && methods.every(method => method === choice.method.value || wrong(row, method)),
}
const chosen = (field, label) => field.value === "" || Number(field.value) === label
const passes = row => kinds[choice.show.value](row) && chosen(choice.truth, truth[row]) && chosen(choice.said, said(row))

const ofClass = label => label < 0 ? colours.noName : colours.classes[label]
const colour = {
  cluster: row => ofClass(said(row)),
  class: row => ofClass(truth[row]),
  verdict: row => wrong(row) ? colours.wrong : colours.right,
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

function paint(canvas, row) {
  const pen = canvas.getContext("2d")
  pen.drawImage(at("sprite"), row % across * tile, Math.floor(row / across) * tile, 28, 28, 0, 0, 28, 28)
}

// one image: its card beside a place on the screen, a ring around its point

function inspect(row, left, top) {
  paint(card.querySelector("canvas"), row)
  card.querySelector("p").replaceChildren(element("strong", {textContent: nameOf(truth[row])}), element("br"), `test image ${index[row]}`)
  card.querySelector("table").replaceChildren(...methods.map(method => {
    const line = element("tr", {}, element("th", {textContent: titles[method], scope: "row"}),
      element("td", {textContent: `${wrong(row, method) ? "✗" : "✓"} ${nameOf(said(row, method))}`}),
      element("td", {textContent: cluster(row, method) < 0 ? "noise" : `#${cluster(row, method)}`, title: "cluster"}))
    if (method === choice.method.value) line.setAttribute("aria-current", "true")
    return line
  }))
  card.dataset.row = row
  card.hidden = false
  const {width, height} = card.getBoundingClientRect()
  card.style.left = `${Math.max(4, left + 18 + width < innerWidth ? left + 18 : left - 18 - width)}px`
  card.style.top = `${Math.max(4, Math.min(top + 18, innerHeight - height - 4))}px`
  ring.data = {x: [x[row]], y: [y[row]]}
}

function leave() {
  card.hidden = true
  ring.data = {x: [], y: []}
}

let visible = []

function nearest(event, reach) {
  const unit = (plot.x_range.end - plot.x_range.start) / plot.inner_width
  let best = -1, least = (reach * unit) ** 2
  for (const row of visible) {
    const distance = (x[row] - event.x) ** 2 + (y[row] - event.y) ** 2
    if (distance < least) [best, least] = [row, distance]
  }
  return best
}

function point(event, reach) {
  const row = nearest(event, reach)
  const {left, top} = place.getBoundingClientRect()
  if (row < 0) leave()
  else inspect(row, left + event.sx, top + event.sy)
}

plot.js_event_callbacks = {mousemove: [event => point(event, 8)], tap: [event => point(event, 16)]}
place.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") leave() })     // a finger leaves as soon as it is lifted
addEventListener("keydown", event => { if (event.key === "Escape") leave() })
addEventListener("scroll", () => {
  leave()
  if (at("gallery").contains(document.activeElement)) document.activeElement.onfocus()          // the keyboard has scrolled it into view
}, {passive: true})
if (matchMedia("(pointer: coarse)").matches) plot.toolbar.active_drag = null        // a finger on the map scrolls the page

// what is shown

function grouped(list, key) {
  const groups = new Map()
  for (const row of list) groups.has(key(row)) ? groups.get(key(row)).push(row) : groups.set(key(row), [row])
  return groups
}

// the member nearest to the median: a group in two parts has its median between them, where nothing is
function middle(members) {
  const [midX, midY] = [x, y].map(side => members.map(row => side[row]).sort((a, b) => a - b)[members.length >> 1])
  const far = row => Math.hypot(x[row] - midX, y[row] - midY)
  return members.reduce((best, row) => far(row) < far(best) ? row : best)
}

// each colour by its name too, for eyes that cannot tell all colours apart; not where a colour is rare
function nameColours() {
  const key = {cluster: row => said(row), class: row => truth[row], verdict: () => -1}[choice.colour.value]
  const groups = [...grouped(visible, key)].filter(([label, members]) => label >= 0 && members.length > visible.length / 100)
  const centres = groups.map(([, members]) => middle(members))
  labels.data = {x: centres.map(row => x[row]), y: centres.map(row => y[row]), text: groups.map(([label]) => nameOf(label))}
}

function showLegend() {
  const verdicts = [[colours.right, "right"], [colours.wrong, "wrong"]]
  const classes = names.map((name, label) => [ofClass(label), name])
  const without = choice.colour.value === "cluster" && rows.some(row => said(row) < 0) ? [[colours.noName, "no name"]] : []
  at("legend").replaceChildren(...(choice.colour.value === "verdict" ? verdicts : [...classes, ...without]).map(([colour, text]) => {
    const item = element("li", {textContent: text})
    item.style.setProperty("--colour", colour)
    return item
  }))
}

function summarise() {
  const right = rows.filter(row => !wrong(row)).length
  at("summary").textContent = `${titles[choice.method.value]}: ${number(right)} of ${number(rows.length)} images right `
    + `(${(100 * right / rows.length).toFixed(1)} %). Shown: ${number(visible.length)}.`
}

function listErrors(most = 10) {
  const pairs = [...grouped(rows.filter(row => wrong(row)), row => `${truth[row]} ${said(row)}`)]
  const frequent = pairs.sort(([, a], [, b]) => b.length - a.length).slice(0, most)
  at("errors").replaceChildren(...frequent.map(([pair, members]) => {
    const [is, called] = pair.split(" ")
    const button = element("button", {type: "button"}, element("span", {textContent: `${nameOf(is)} → ${nameOf(called)}`}), number(members.length))
    button.setAttribute("aria-pressed", choice.truth.value === is && choice.said.value === called)
    button.onclick = () => {
      const pressed = button.getAttribute("aria-pressed") === "true"
      filter("all", pressed ? "" : is, pressed ? "" : called)
      at("errors").querySelector(pressed ? "button" : '[aria-pressed="true"]').focus()
    }
    return element("li", {}, button)
  }))
}

// the first images of those shown; Tab comes to the row once, the arrow keys go along it

function fillGallery(most = 96) {
  at("found").textContent = visible.length > most ? `The first ${most} of ${number(visible.length)} images shown` : `Images shown: ${visible.length}`
  at("gallery").replaceChildren(...visible.slice(0, most).map((row, rank) => {
    const picture = element("canvas", {width: 28, height: 28, tabIndex: rank ? -1 : 0, role: "img"})
    picture.setAttribute("aria-label", `Image ${index[row]}: ${nameOf(truth[row])}, taken for ${nameOf(said(row))}`)
    paint(picture, row)
    const show = () => {
      const box = picture.getBoundingClientRect()
      inspect(row, box.right - 18, box.bottom - 18)
    }
    picture.onfocus = picture.onpointerenter = show
    picture.onblur = picture.onpointerleave = leave
    return picture
  }))
}

at("gallery").onkeydown = event => {
  const next = {ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling"}[event.key]
  if (next && event.target[next]) event.target[next].focus()
}

function draw() {
  leave()
  visible = rows.filter(passes)
  const top = choice.colour.value === "verdict" ? [...visible].sort((a, b) => wrong(a) - wrong(b)) : visible      // errors over the rest
  shown.data = {x: top.map(row => x[row]), y: top.map(row => y[row]), colour: top.map(colour[choice.colour.value])}
  nameColours()
  showLegend()
  summarise()
  listErrors()
  fillGallery()
}

function filter(show, is, called) {
  [choice.show.value, choice.truth.value, choice.said.value] = [show, is, called]
  draw()
}

at("choices").onchange = draw
at("clear").onclick = () => filter("all", "", "")
at("sprite").decode().then(draw)
