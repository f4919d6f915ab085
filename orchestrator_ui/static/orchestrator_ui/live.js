/* What the feed cannot do from the server: count seconds, keep what a person has opened
   or focused while a part of the page is replaced, and poll where there is no socket.
   No code is evaluated and no style is set, so it works under a strict policy. */
"use strict";
(function () {
    const seen = new Map(); // the HTML that each live part was last given, by id

    function htmlOf(element) {
        const copy = element.cloneNode(true);
        copy.removeAttribute("hx-swap-oob");
        return copy.outerHTML;
    }

    // Durations that go on, by the server's clock.

    let ahead = 0; // milliseconds that this machine's clock is ahead of the server's

    function span(milliseconds) {
        const seconds = Math.max(0, Math.round(milliseconds / 1000));
        if (seconds < 60) return seconds + " s";
        if (seconds < 3600) return Math.floor(seconds / 60) + " min " + (seconds % 60) + " s";
        if (seconds < 86400) {
            return Math.floor(seconds / 3600) + " h " + Math.floor((seconds % 3600) / 60) + " min";
        }
        return Math.floor(seconds / 86400) + " d " + Math.floor((seconds % 86400) / 3600) + " h";
    }

    function tick() {
        const now = Date.now() - ahead;
        for (const each of document.querySelectorAll(".orch-elapsed")) {
            each.textContent = span(now - Number(each.dataset.since));
        }
    }

    // A part is replaced only where it differs, and what was opened stays open.

    function beforeSwap(event) {
        const fresh = event.detail.fragment.firstElementChild;
        const old = event.detail.target;
        if (!fresh || !old.id) return;
        const html = fresh.outerHTML;
        if (seen.get(old.id) === html) {
            event.detail.shouldSwap = false;
            return;
        }
        seen.set(old.id, html);
        if (old.id === "run-outputs_signal") askForOutputs();
        for (const details of old.querySelectorAll("details[id]")) {
            const same = event.detail.fragment.getElementById(details.id);
            if (same) same.open = details.open;
        }
        keepFocus(old, fresh);
    }

    function keepFocus(old, fresh) {
        const focused = document.activeElement;
        if (!focused || !old.contains(focused)) return;
        const which = Array.from(old.querySelectorAll("a, summary, [tabindex]")).indexOf(focused);
        setTimeout(function () {
            const now = document.getElementById(fresh.id);
            if (!now || now.contains(document.activeElement)) return;
            const again = focused === old ? now : now.querySelectorAll("a, summary, [tabindex]")[which];
            if (again) again.focus({ preventScroll: true });
        }, 0);
    }

    // Outputs are asked for by the person who looks, never sent to everybody.

    let asking = null; // at most once a second, however fast a task talks

    function askForOutputs() {
        if (asking === null) asking = setTimeout(askNow, 1000);
    }

    function askNow() {
        asking = null;
        const region = document.getElementById("run-outputs");
        const signal = document.getElementById("run-outputs_signal");
        if (region && signal) {
            htmx.ajax("GET", signal.dataset.url, { target: region, swap: "innerHTML" });
        }
    }

    // The socket, and what takes its place.

    function say(feed, words, kind) {
        const live = document.getElementById("orch-live");
        live.textContent = words;
        live.className = "orch-live orch-live-" + kind;
    }

    function follow(feed) {
        let timer = null; // polls
        let broken = null; // when the socket was lost
        let proving = null; // a socket counts once it has been open for a second

        function poll() {
            if (!document.hidden) htmx.ajax("GET", feed.dataset.poll, { target: feed, swap: "none" });
        }

        feed.addEventListener("htmx:wsOpen", function () {
            const isFirst = broken === null;
            proving = setTimeout(function () {
                clearInterval(timer);
                timer = broken = null;
                say(feed, feed.dataset.on, "on");
            }, isFirst ? 0 : 1000);
        });
        feed.addEventListener("htmx:wsClose", function (event) {
            clearTimeout(proving);
            const code = event.detail.event.code;
            if (code >= 4000 || code === 1008) {
                clearInterval(timer);
                say(feed, feed.dataset.off, "off");
                return;
            }
            broken = broken || Date.now();
            // A socket that comes back within seconds is not worth a word.
            if (timer === null) {
                timer = setInterval(function () {
                    if (Date.now() - broken < 4000) return;
                    say(feed, feed.dataset.pollOn, "poll");
                    poll();
                }, 5000);
            }
        });
        if (!feed.hasAttribute("ws-connect")) say(feed, feed.dataset.pollOn, "poll");
    }

    function start() {
        const feed = document.getElementById("orch-feed");
        if (!feed) return;
        ahead = Date.now() - Number(feed.dataset.now);
        for (const part of document.querySelectorAll("[hx-swap-oob][id]")) {
            seen.set(part.id, htmlOf(part));
        }
        document.body.addEventListener("htmx:oobBeforeSwap", beforeSwap);
        document.body.addEventListener("htmx:oobAfterSwap", tick);
        follow(feed);
        tick();
        setInterval(tick, 1000);
    }

    // Before htmx, which opens the socket as soon as the document is ready.
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
})();
