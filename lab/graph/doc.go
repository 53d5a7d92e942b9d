// Package graph draws a topology as an SVG file: what `anycastle lab graph` writes.
//
// The picture is made for sites: what is outside stands on top, below it the sites side by side, in each the routers,
// then the layers from the network to the back end, pods as boxes around what is theirs. Every node is there once. A
// router's lines to the nodes of its site run along rails, so that they do not cross the boxes of others; all other
// lines go straight from node to node. The same topology gives the same bytes.
//
// PlaceOf says where a node belongs; lab/watch and lab/fault ask it too.
package graph
