#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the recorded measurements as SVG.

  plots.py roofline OUT.svg --peak GFLOPS --memory GBYTES PROFILE.json...   (from: rsseg --json bench NET --profile 1)
      one circle per kind of operator and network: products per byte against products per second; the area is its share of the time
  plots.py linear OUT.svg RUN.json...                                        (from: rsseg --json bench NET --input 1,3,S,S)
      seconds against pixels, both logarithmic, with the line of constant cost per pixel through the first point of each network
"""
import json
import math
import sys

COLOURS = ['#4269d0', '#ff725c', '#3ca951', '#efb118', '#a463f2', '#6cc5b0', '#9c6b4e', '#ff8ab7', '#97bbf5', '#9498a0']
W, H, LEFT, RIGHT, TOP, BOTTOM = 860, 520, 70, 210, 36, 56


class Axes:
    def __init__(self, x, y, title, xlabel, ylabel):
        self.x0, self.x1 = (math.log10(v) for v in x)
        self.y0, self.y1 = (math.log10(v) for v in y)
        self.out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif" font-size="12">',
                    f'<rect width="{W}" height="{H}" fill="white"/>',
                    f'<text x="{LEFT}" y="22" font-size="15">{title}</text>']
        for axis, (lo, hi) in (('x', (self.x0, self.x1)), ('y', (self.y0, self.y1))):
            for e in range(math.floor(lo), math.ceil(hi) + 1):
                for m in range(1, 10):
                    v = m * 10.0 ** e
                    if not lo - 1e-9 <= math.log10(v) <= hi + 1e-9:
                        continue
                    stroke = '#bbb' if m == 1 else '#eee'
                    if axis == 'x':
                        p = self.px(v)
                        self.out.append(f'<line x1="{p:.1f}" y1="{TOP}" x2="{p:.1f}" y2="{H - BOTTOM}" stroke="{stroke}"/>')
                        if m == 1:
                            self.out.append(f'<text x="{p:.1f}" y="{H - BOTTOM + 16}" text-anchor="middle">{self.number(v)}</text>')
                    else:
                        p = self.py(v)
                        self.out.append(f'<line x1="{LEFT}" y1="{p:.1f}" x2="{W - RIGHT}" y2="{p:.1f}" stroke="{stroke}"/>')
                        if m == 1:
                            self.out.append(f'<text x="{LEFT - 6}" y="{p + 4:.1f}" text-anchor="end">{self.number(v)}</text>')
        self.out.append(f'<text x="{(LEFT + W - RIGHT) / 2}" y="{H - 14}" text-anchor="middle">{xlabel}</text>')
        self.out.append(f'<text transform="translate(18,{(TOP + H - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{ylabel}</text>')

    @staticmethod
    def number(v):
        for limit, unit in ((1e9, 'G'), (1e6, 'M')):
            if v >= limit:
                return f'{v / limit:g} {unit}'
        return f'{v:g}'

    def px(self, v):
        return LEFT + (math.log10(v) - self.x0) / (self.x1 - self.x0) * (W - LEFT - RIGHT)

    def py(self, v):
        return H - BOTTOM - (math.log10(v) - self.y0) / (self.y1 - self.y0) * (H - TOP - BOTTOM)

    def line(self, points, colour, dash=''):
        d = ' '.join(f'{self.px(x):.1f},{self.py(y):.1f}' for x, y in points)
        self.out.append(f'<polyline points="{d}" fill="none" stroke="{colour}" stroke-width="1.5"' + (f' stroke-dasharray="{dash}"' if dash else '') + '/>')

    def circle(self, x, y, r, colour, text):
        self.out.append(f'<circle cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="{r:.1f}" fill="{colour}" fill-opacity="0.55" stroke="{colour}">'
                        f'<title>{text}</title></circle>')

    def legend(self, entries):
        for i, (colour, text) in enumerate(entries):
            y = TOP + 14 + 18 * i
            self.out.append(f'<circle cx="{W - RIGHT + 20}" cy="{y - 4}" r="5" fill="{colour}"/><text x="{W - RIGHT + 32}" y="{y}">{text}</text>')

    def save(self, path):
        with open(path, 'w') as f:
            f.write('\n'.join(self.out + ['</svg>']) + '\n')


def roofline(out, peak, memory, files):
    points, kinds = [], {}
    for f in files:
        run = json.load(open(f))
        groups, total = {}, sum(n['s'] for n in run['nodes'])
        for n in run['nodes']:
            g = groups.setdefault(n['operator'], [0, 0, 0])
            g[0] += n['s']
            g[1] += n['flops']
            g[2] += n['bytes']
        for kind, (s, flops, size) in groups.items():
            if s / total < 0.01:
                continue
            # Operators without products are placed by what they move: one operation per four bytes.
            work = flops or size / 4
            points.append((work / size, work / s * 1e-9, s / total, kind, run['net'] + (' training' if run['train'] else '')))
            kinds[kind] = kinds.get(kind, 0) + s / total
    a = Axes((0.1, 1000), (0.3, 1000), f'Where operators stand: peak {peak:g} GFLOP/s, memory {memory:g} GB/s, one thread',
             'operations per byte (direct sum, every operand once)', 'G operations per second')
    a.line([(0.3 / memory if 0.3 / memory > 0.1 else 0.1, max(0.3, 0.1 * memory)), (peak / memory, peak), (1000, peak)], '#333')
    order = sorted(kinds, key=kinds.get, reverse=True)
    colour = {k: COLOURS[min(i, len(COLOURS) - 1)] for i, k in enumerate(order)}
    for x, y, share, kind, net in sorted(points, key=lambda p: -p[2]):
        a.circle(min(max(x, 0.1), 1000), min(max(y, 0.3), 1000), 3 + 22 * math.sqrt(share), colour[kind],
                 f'{kind}, {net}: {100 * share:.1f} % of the time, {y:.1f} G/s at {x:.2f} per byte')
    a.legend([(colour[k], k) for k in order[:len(COLOURS) - 1]] + ([(COLOURS[-1], 'others')] if len(order) >= len(COLOURS) else []))
    a.save(out)


def linear(out, files):
    nets = {}
    for f in files:
        run = json.load(open(f))
        nets.setdefault(run['net'], []).append((run['input'][2] * run['input'][3], run['median_s']))
    times = [t for v in nets.values() for _, t in v]
    pixels = [p for v in nets.values() for p, _ in v]
    a = Axes((min(pixels) / 1.5, max(pixels) * 1.5), (min(times) / 2, max(times) * 2), 'Inference: seconds against pixels, one thread', 'pixels', 'seconds')
    names = []
    for i, (net, v) in enumerate(sorted(nets.items())):
        v.sort()
        c = COLOURS[i % len(COLOURS)]
        a.line([(v[0][0], v[0][1]), (v[-1][0], v[0][1] * v[-1][0] / v[0][0])], c, '4 4')
        a.line(v, c)
        for p, t in v:
            a.circle(p, t, 4, c, f'{net}, {p} pixels: {t:.4f} s, {t / p * 1e9:.1f} ns per pixel')
        names.append((c, f'{net}: {v[0][1] / v[0][0] * 1e9:.0f} to {v[-1][1] / v[-1][0] * 1e9:.0f} ns'))
    a.legend(names)
    a.save(out)


def main(args):
    if len(args) < 3 or args[0] not in ('roofline', 'linear'):
        sys.exit(__doc__)
    if args[0] == 'linear':
        return linear(args[1], args[2:])
    rest, option = args[2:], {'--peak': 0.0, '--memory': 0.0}
    while rest and rest[0] in option:
        option[rest[0]] = float(rest[1])
        rest = rest[2:]
    roofline(args[1], option['--peak'], option['--memory'], rest)


main(sys.argv[1:])
