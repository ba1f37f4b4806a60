// Rasterises the icons that the model is trained on.
//
//   node render_icons.js OUT_DIR [LIMIT]
//
// OUT_DIR/sprites.raw   one SIZE x SIZE x 4 RGBA block (straight alpha) after another
// OUT_DIR/sprites.json  one record a block: set, name, category, English label, keywords
//
// LIMIT keeps only the first so many icons of each set (for the smoke test).
'use strict';
const fs = require('fs');
const path = require('path');
const { Resvg } = require('@resvg/resvg-js');

const SIZE = 256;
const SETS = ['noto', 'fluent-emoji-flat', 'fluent-emoji', 'noto-v1', 'twemoji', 'emojione', 'fxemoji',
  'streamline-emojis'];

const KEPT_CATEGORIES = new Set([
  'Activities', 'Animals & Nature', 'Food & Drink', 'Objects', 'Travel & Places', 'Smileys & Emotion']);

// "People & Body" and "Symbols" hold mostly skin-tone variants, hand signs and letters; only these are kept.
const KEPT_PEOPLE = new Set((
  'anatomical-heart artist astronaut baby baby-angel bone boy brain child clapping-hands ' +
  'construction-worker cook detective ear elf eye eyes fairy farmer firefighter flexed-biceps folded-hands ' +
  'foot footprints genie girl guard handshake judge leg lungs mage man mechanic mermaid mouth ninja nose ' +
  'ok-hand old-man old-woman person pilot police-officer prince princess raised-fist raised-hand santa-claus ' +
  'scientist singer skier snowboarder student superhero supervillain teacher thumbs-down thumbs-up tongue ' +
  'tooth troll vampire victory-hand waving-hand woman woman-dancing man-dancing person-running person-biking ' +
  'person-swimming person-surfing writing-hand zombie person-fairy person-mage person-elf person-genie ' +
  'person-superhero person-vampire person-zombie').split(' '));
const KEPT_SYMBOLS = new Set((
  'check-mark cross-mark plus minus peace-symbol recycling-symbol warning yin-yang radioactive biohazard ' +
  'infinity red-question-mark red-exclamation-mark red-circle orange-circle yellow-circle green-circle ' +
  'blue-circle purple-circle brown-circle black-circle white-circle red-square orange-square yellow-square ' +
  'green-square blue-square purple-square brown-square right-arrow left-arrow up-arrow down-arrow ' +
  'heavy-dollar-sign no-entry sparkle').split(' '));

// Icons that are text, variants of another icon, or nothing a newcomer would ask for.
const DROPPED = new RegExp('skin-tone|medium-|-light$|-dark$|-medium$|' +
  'oclock|-thirty$|japanese-post|-banknote$|shibuya|^moai$|love-hotel|^kaaba|mailbox-with|loudspeaker|' +
  'speaker-|^hamsa|^nazar|tear-off|globe-with-mer|^map-of|-moon-face|locked-with|yen$|1st-|2nd-|3rd-|' +
  '^joker|mahjong|flower-playing|-suit$|moon-viewing|^cigarette|^coffin|^funeral|^razor|^bomb$|^knot$|' +
  '^pile-of-poo|^middle|hair-pick|^hot-springs|^world-map|^level-slider|^dvd|optical-disk|identification|' +
  'low-battery|mobile-phone-with|bell-with-slash|incoming-env|envelope-with|x-ray|page-|index|inbox|outbox|' +
  'piata|^pistol|^water-pistol|bubble$|^kiss-mark|hundred-points|anger-symbol|^zzz|^dashing|^collision|' +
  '^dizzy$|sweat-droplets|^hole$|^light-rail|^tram-car|^railway-car|^metro$|^station$|hourglass-not|' +
  'magnifying-glass-tilted-right');

// resvg 2.6.2 aborts the process on these drawings.
const CRASHES_RENDERER = new Set(['noto:package', 'noto-v1:ambulance', 'noto-v1:bullet-train',
  'noto-v1:cocktail-glass', 'noto-v1:hot-beverage', 'noto-v1:lady-beetle']);

function slug(label) {
  return label.replace(/[:“”’.,!()]/g, '').replace(/ /g, '-').toLowerCase();
}

function keywordsBySlug() {
  const table = {};
  for (const entry of require('emojibase-data/en/data.json')) {
    table[slug(entry.label)] = { label: entry.label, tags: entry.tags || [] };
  }
  return table;
}

// Two sets have names of their own for the same things: "artistpalette", "baby-1". Gives the usual name, or null.
function usualName(set, name, usual) {
  if (set === 'fxemoji') return usual.withoutDashes[name] || null;
  if (set === 'streamline-emojis') {
    const plain = name.replace(/-\d+$/, '');
    return usual.names.has(plain) ? plain : null;
  }
  return name;
}

// Not every set ships categories: noto's come first, as the most complete.
function categoriesFor(set) {
  const byName = {};
  for (const source of ['noto', 'fluent-emoji-flat', set]) {
    let file;
    try {
      file = require.resolve(`@iconify-json/${source}/metadata.json`);
    } catch { continue; }
    const categories = JSON.parse(fs.readFileSync(file)).categories || {};
    for (const [category, names] of Object.entries(categories)) {
      for (const name of names) byName[name] = byName[name] || category;
    }
  }
  return byName;
}

function wanted(name, category) {
  if (!category || DROPPED.test(name)) return false;
  return KEPT_CATEGORIES.has(category) ||
    (category === 'People & Body' && KEPT_PEOPLE.has(name)) ||
    (category === 'Symbols' && KEPT_SYMBOLS.has(name));
}

function rasterise(icon, defaults) {
  const box = [icon.left || defaults.left || 0, icon.top || defaults.top || 0,
    icon.width || defaults.width || 16, icon.height || defaults.height || 16];
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
    `width="${SIZE}" height="${SIZE}" viewBox="${box.join(' ')}">${icon.body}</svg>`;
  return new Resvg(svg, { fitTo: { mode: 'width', value: SIZE }, font: { loadSystemFonts: false } })
    .render().pixels;
}

function main(outDir, limit) {
  const keywords = keywordsBySlug();
  const names = Object.keys(keywords);
  const usual = { names: new Set(names), withoutDashes: Object.fromEntries(names.map((n) => [n.replace(/-/g, ''), n])) };
  const records = [];
  const out = fs.openSync(path.join(outDir, 'sprites.raw'), 'w');
  for (const set of SETS) {
    const pack = require(`@iconify-json/${set}/icons.json`);
    const categories = categoriesFor(set);
    let kept = 0;
    for (const [own, icon] of Object.entries(pack.icons)) {
      if (kept >= limit) break;
      const name = usualName(set, own, usual);
      if (!name) continue;
      const category = categories[name];
      if (!wanted(name, category) || CRASHES_RENDERER.has(`${set}:${own}`)) continue;
      const pixels = rasterise(icon, pack);
      if (pixels.length !== SIZE * SIZE * 4) {
        console.error(`${set}:${own} is not square; left out`);
        continue;
      }
      fs.writeSync(out, pixels);
      const known = keywords[name];
      records.push({
        set, name, category,
        label: known ? known.label : name.replace(/-/g, ' '),
        tags: known ? known.tags : [],
      });
      kept++;
    }
    console.log(`${set}: ${kept} icons`);
  }
  fs.closeSync(out);
  fs.writeFileSync(path.join(outDir, 'sprites.json'), JSON.stringify(records));
}

main(process.argv[2], Number(process.argv[3] || Infinity));
